package inbox

import (
	"context"
	"sync"
)

// polls serializes the polls of each mailbox. A newer poll supersedes those that
// wait. It waits for one that is being answered, so that no message is written
// twice while it is not known whether the first write arrived.
type polls struct {
	mu    sync.Mutex
	slots map[string]pollSlot
	ended bool
}

// pollSlot is the state of a mailbox that is being polled. Only the holder reads
// from the store. The newest is the holder or waits to become it.
type pollSlot struct {
	holder, newest *poll
}

// poll is one GET. The lock of polls guards it. Most polls find a message at
// once; only one that waits has a context of its own.
type poll struct {
	name      string
	endReason error           // why it must end, or nil
	ctx       context.Context // to wait in; nil until it waits
	cancel    context.CancelCauseFunc
	ready     chan struct{} // closed when it becomes the holder; nil if it was from the start
}

// endLocked ends p for that reason, unless it has one already.
func (p *poll) endLocked(reason error) {
	if p.endReason != nil {
		return
	}
	p.endReason = reason
	if p.cancel != nil {
		p.cancel(reason)
	}
}

// enter supersedes older polls of that name and waits until it is the holder. The
// caller must let the poll leave, also after an error.
func (ps *polls) enter(ctx context.Context, name string) (*poll, error) {
	p := &poll{name: name}
	if err := ps.add(p); err != nil || p.ready == nil {
		return p, err
	}
	ctx, err := ps.waitContext(ctx, p)
	if err != nil {
		return p, err
	}
	select {
	case <-p.ready:
		return p, ps.endReason(p)
	case <-ctx.Done():
		return p, context.Cause(ctx)
	}
}

// tryEnter returns a poll that is the holder, or nil if there is another poll of
// that name.
func (ps *polls) tryEnter(name string) *poll {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.ended || ps.slots[name].holder != nil {
		return nil
	}
	p := &poll{name: name}
	ps.slots[name] = pollSlot{holder: p, newest: p}
	return p
}

// add makes p the newest poll of its name, and the holder if the name has none. The
// error is why it must end at once.
func (ps *polls) add(p *poll) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.ended {
		p.endReason = ErrStopping
	}
	slot := ps.slots[p.name]
	if slot.holder == nil {
		slot.holder = p
	} else {
		slot.newest.endLocked(ErrSuperseded)
		p.ready = make(chan struct{})
	}
	slot.newest = p
	ps.slots[p.name] = slot
	return p.endReason
}

// waitContext returns a context for p to wait in. It ends with ctx, or when the
// poll must end, with the reason as its cause.
func (ps *polls) waitContext(ctx context.Context, p *poll) (context.Context, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p.endReason != nil {
		return nil, p.endReason
	}
	if p.ctx == nil {
		p.ctx, p.cancel = context.WithCancelCause(ctx)
	}
	return p.ctx, nil
}

// endReason returns why p must end, or nil.
func (ps *polls) endReason(p *poll) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return p.endReason
}

// leave ends p and makes the newest poll the holder. A second call does nothing.
func (ps *polls) leave(p *poll) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p.cancel != nil {
		p.cancel(nil)
	}
	slot := ps.slots[p.name]
	switch {
	case slot.holder == p && slot.newest == p:
		delete(ps.slots, p.name)
		return
	case slot.holder == p:
		slot.holder = slot.newest
		close(slot.holder.ready)
	case slot.newest == p:
		slot.newest = slot.holder
	default:
		return // superseded before it was the holder, or left already: the name can have no slot
	}
	ps.slots[p.name] = slot
}

// endAll ends all polls, and all later ones.
func (ps *polls) endAll() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.ended = true
	for _, slot := range ps.slots {
		slot.newest.endLocked(ErrStopping)
	}
}
