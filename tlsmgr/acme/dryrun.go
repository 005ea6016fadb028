package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"time"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/timeout"
	"inbox/tlsmgr/internal/tlsconfig"
	"inbox/tlsmgr/storage"
)

// DryRun makes the orders of a [Client] with the same options, and discards the
// certificates. It orders at the staging CA if there is one (for Let's Encrypt by
// default), else at the first CA. There, failed validations count in the schedule of the
// client, and its budget applies.
//
// The responses to challenges are stored in the storage of the options, so that a running
// server can respond to the CA. Without a running server, the caller must serve TLSConfig
// and HTTPHandler.
type DryRun struct {
	settings   *Settings
	engine     Engine
	challenges *challenges
	records    records
	ca         *CAClient
	tempDir    string
}

// NewDryRun returns a dry run, which must be closed. The error wraps [ErrUsage] for an
// invalid configuration. Storage can be nil only if there is a staging CA.
func NewDryRun(o Options) (*DryRun, error) {
	s, err := resolve(o.Config, o.Domains, o.Logger)
	if err != nil {
		return nil, err
	}
	d := &DryRun{settings: s, ca: s.StagingCA, records: records{storage: o.Storage, cas: s.caURLs(), log: s.Log}}
	if d.ca == nil {
		if d.ca = s.CAs[0]; o.Storage == nil {
			return nil, errors.New("there is no state directory yet, and failed validations at a CA must be recorded: " +
				"start the server once")
		}
	}
	if d.tempDir, err = os.MkdirTemp("", "inbox-renew-test-"); err != nil {
		return nil, fmt.Errorf("create a directory for the test: %w", err)
	}
	values := storage.Storage(storage.NewDirectory(d.tempDir, s.Log))
	challenges := values
	if o.Storage != nil {
		values, challenges = overlay{values, o.Storage}, o.Storage
	}
	if d.engine, err = s.newEngine(values, challenges); err != nil {
		return nil, errors.Join(err, os.RemoveAll(d.tempDir))
	}
	d.challenges = newChallenges(s.Names, d.engine, func(string) bool { return false })
	return d, nil
}

// overlay reads from the lower storage what the upper one does not hold, and writes to
// the upper one only. A dry run begins with the account and the certificate of the
// server, so that it requests what the server will request, and changes neither.
type overlay struct {
	storage.Storage
	lower storage.Storage
}

// Load implements storage.Storage.
func (o overlay) Load(ctx context.Context, key string) ([]byte, error) {
	value, err := o.Storage.Load(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return o.lower.Load(ctx, key)
	}
	return value, err
}

// List implements storage.Storage.
func (o overlay) List(ctx context.Context, dir string) ([]string, error) {
	upper, err := o.Storage.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	lower, err := o.lower.List(ctx, dir)
	all := append(upper, lower...)
	slices.Sort(all)
	return slices.Compact(all), err
}

// TLSConfig returns a server configuration that only answers challenges.
func (d *DryRun) TLSConfig() *tls.Config {
	c := tlsconfig.Server(func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if !IsChallenge(hello) {
			return nil, nil
		}
		return d.challenges.getCertificate(hello)
	})
	c.NextProtos = append(c.NextProtos, ALPNProto)
	return c
}

// HTTPHandler returns a handler that responds to http-01 challenges and passes all other
// requests to fallback.
func (d *DryRun) HTTPHandler(fallback http.Handler) http.Handler {
	return d.challenges.httpHandler(fallback)
}

// Close stops the engine and deletes the certificates.
func (d *DryRun) Close() error {
	d.engine.Close()
	return os.RemoveAll(d.tempDir)
}

// Order makes one order for each name, and returns the first error.
func (d *DryRun) Order(ctx context.Context) error {
	for _, name := range d.settings.Names {
		if err := d.orderName(ctx, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (d *DryRun) orderName(ctx context.Context, name string) error {
	if d.settings.hasNoAddress(ctx, name) {
		return errNoAddress
	}
	run := &orderRun{Settings: d.settings, engine: d.engine, probe: fetchDirectory, name: name,
		state: new(schedule.State), lockedStorage: d.settings.Storage, lockedChallenges: d.settings.Challenges, dryRun: true,
		save: func(context.Context) error { return nil }}
	if d.records.storage == nil {
		return run.orderAt(ctx, d.ca)
	}
	lease, err := d.lock(ctx, name)
	if err != nil {
		return err
	}
	defer lease.Release()
	run.lockedChallenges = lease
	if d.ca != d.settings.StagingCA {
		if *run.state, err = d.records.loadUnder(ctx, lease, name, time.Now()); err != nil {
			return err
		}
		run.save = func(ctx context.Context) error {
			return d.records.save(context.WithoutCancel(ctx), lease, name, *run.state)
		}
	}
	ctx, cancel := storage.Context(ctx, lease)
	defer cancel()
	err = run.orderAt(ctx, d.ca)
	if ctx.Err() != nil || errors.Is(err, errValidationBudget) { // the stored state is up to date
		return err
	}
	return errors.Join(err, run.save(ctx))
}

// lockTimeout bounds the wait for an order of another process.
const lockTimeout = 30 * time.Second

// lock acquires the lock of the name. While it is held, the server does not order for the
// name, and responds to challenges from storage.
func (d *DryRun) lock(ctx context.Context, name string) (storage.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	for {
		lease, err := d.records.lock(ctx, name)
		switch {
		case err == nil:
			return lease, nil
		case !errors.Is(err, storage.ErrLocked):
			return nil, fmt.Errorf("lock the orders of the name: %w", err)
		case timeout.Sleep(ctx, lockCacheTTL) != nil:
			return nil, errors.New("another process is ordering for the name; try again in a minute")
		}
	}
}
