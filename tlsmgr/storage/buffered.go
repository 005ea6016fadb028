package storage

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
)

// Buffered is a [Storage] that keeps values in memory if the underlying storage rejects
// them, until [Buffered.Flush] writes them. A certificate that was obtained while the disk
// was full is then served, and not ordered again.
type Buffered struct {
	Storage
	pending *pendingWrites
}

// pendingWrites are shared by a storage and its leases.
type pendingWrites struct {
	log *slog.Logger

	// writeMu serializes writes, so that a pending value does not replace a newer one.
	writeMu sync.Mutex

	mu     sync.Mutex // not held during calls of the storage
	values map[string][]byte
}

// NewBuffered returns a storage that writes to s.
func NewBuffered(s Storage, log *slog.Logger) *Buffered {
	return &Buffered{s, &pendingWrites{log: log, values: map[string][]byte{}}}
}

// Under returns a storage that writes through a lease.
func (b *Buffered) Under(l Lease) *Buffered { return &Buffered{l, b.pending} }

// Store implements [Storage]. It returns an error only if ctx has ended or the lease is
// lost; otherwise it keeps the value.
func (b *Buffered) Store(ctx context.Context, key string, value []byte) error {
	p := b.pending
	p.writeMu.Lock()
	defer p.writeMu.Unlock()
	err := b.Storage.Store(ctx, key, value)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		delete(p.values, key)
		return nil
	}
	if ctx.Err() != nil || errors.Is(err, ErrLeaseLost) {
		return err // the value must not be written later
	}
	if len(p.values) == 0 {
		p.log.Error("the certificate storage rejects writes; new values are kept in memory until it accepts them: "+
			"check its free space and permissions", "err", err)
	}
	p.values[key] = slices.Clone(value)
	return nil
}

// Load implements [Storage].
func (b *Buffered) Load(ctx context.Context, key string) ([]byte, error) {
	if value, ok := b.pending.get(key); ok {
		return value, nil
	}
	return b.Storage.Load(ctx, key)
}

// Delete implements [Storage].
func (b *Buffered) Delete(ctx context.Context, key string) error {
	p := b.pending
	p.writeMu.Lock()
	defer p.writeMu.Unlock()
	p.mu.Lock()
	delete(p.values, key)
	p.mu.Unlock()
	return b.Storage.Delete(ctx, key)
}

func (p *pendingWrites) get(key string) ([]byte, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	value, ok := p.values[key]
	return slices.Clone(value), ok
}

// Flush tries to write the values that are kept in memory.
func (b *Buffered) Flush(ctx context.Context) {
	p := b.pending
	p.mu.Lock()
	keys := slices.Collect(maps.Keys(p.values))
	p.mu.Unlock()
	for _, key := range keys {
		if b.flushKey(ctx, key) != nil {
			return
		}
	}
	if len(keys) > 0 {
		p.log.Info("the certificate storage accepts writes again; all values are stored")
	}
}

// flushKey writes the current value, unless it was deleted in the meantime.
func (b *Buffered) flushKey(ctx context.Context, key string) error {
	p := b.pending
	p.writeMu.Lock()
	defer p.writeMu.Unlock()
	value, ok := p.get(key)
	if !ok {
		return nil
	}
	if err := b.Storage.Store(ctx, key, value); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.values, key)
	return nil
}
