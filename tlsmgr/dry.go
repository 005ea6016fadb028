package tlsmgr

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
)

// Attended tells whether a server runs that answers challenges out of this state
// directory. It writes nothing.
func Attended(stateDir string) bool {
	return stateDir != "" && attended(filepath.Join(stateDir, acmeDir, scheduleDir, servedLock))
}

// Dry makes orders as a server with the same configuration would, and throws
// away what they bring. They go to the place for trials when there is one (Let's
// Encrypt's staging), else to the authority itself: then validations that fail
// are counted in the server's record, whose hard floor holds here too.
//
// A server that runs on the state directory answers the challenges, which are
// laid out there; without one, whoever calls serves TLSConfig and HTTPHandler.
type Dry struct {
	set        *settings
	engine     engine
	challenges *challenges
	records    records
	ca         *authority
	counted    bool // by the server's record
	scratch    string
}

// NewDry prepares orders. What contradicts itself is an [ErrUsage]. [Dry.Close]
// removes what it makes.
func NewDry(c Config) (*Dry, error) {
	s, err := check(c)
	if err != nil {
		return nil, err
	}
	d := &Dry{set: s, ca: s.dryAt(), counted: s.dryAt() == s.cas[0]}
	if s.Shared == nil && !exists(s.StateDir) {
		s.StateDir = ""
	}
	d.records = newRecords(newPlace(s.Config), s)
	if d.counted && d.nowhere() {
		return nil, errors.New("there is no state directory yet, and validations that fail at an authority must be recorded; " +
			"start the server once, or make the directory that -state names for the user it runs as")
	}
	if d.scratch, err = os.MkdirTemp("", "inbox-renew-test-"); err != nil {
		return nil, fmt.Errorf("make a directory for the test: %w", err)
	}
	d.build()
	return d, nil
}

func (d *Dry) build() {
	scratch := disk{d.scratch, d.set.Logger}
	keep := newKeeper(storageOf(scratch), d.set.Logger)
	if !d.nowhere() {
		keep.Storage = laidOut{keep.Storage, storageOf(d.records.place), d.give}
	}
	if d.set.ACME.Engine == Autocert {
		d.engine = newAutocert(d.set, keep, scratch)
	} else {
		d.engine = newCertmagic(d.set, keep, scratch)
	}
	d.challenges = newChallenges(d.set.names, d.engine, func(string) bool { return false })
}

// nowhere is whether there is nothing that a server keeps.
func (d *Dry) nowhere() bool { return d.records.place == nowhere{} }

// TLSConfig answers challenges and nobody else.
func (d *Dry) TLSConfig() *tls.Config {
	c := serverConfig(func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if !isChallenge(hello) {
			return nil, nil
		}
		return d.challenges.tls(hello)
	})
	c.NextProtos = append(c.NextProtos, acmeProtocol)
	return c
}

// HTTPHandler answers challenges, and leaves the rest to fallback.
func (d *Dry) HTTPHandler(fallback http.Handler) http.Handler { return d.challenges.http(fallback) }

// Close ends what runs in the background, and removes what orders brought.
func (d *Dry) Close() error {
	d.engine.close()
	return os.RemoveAll(d.scratch)
}

// Order makes one order for each name, and returns the first error.
func (d *Dry) Order(ctx context.Context) error {
	for _, name := range d.set.names {
		if err := d.orderName(ctx, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// lockTime is how long the order of another process is waited for.
const lockTime = 30 * time.Second

func (d *Dry) orderName(ctx context.Context, name string) error {
	if d.set.homeless(ctx, name) {
		return errHomeless
	}
	if d.nowhere() {
		return d.tryWays(ctx, name, new(record))
	}
	held, free, err := d.lock(ctx, name)
	if err != nil {
		return err
	}
	defer free()
	rec, err := d.records.readLocked(held, name, time.Now())
	if d.give(d.records.key(name, ".json")); err != nil {
		return err
	}
	return d.tryWays(held, name, rec)
}

// lock keeps the server from ordering for the name, and has it answer for us.
func (d *Dry) lock(ctx context.Context, name string) (held context.Context, free func(), err error) {
	for deadline := time.Now().Add(lockTime); ; {
		held, free, taken, err := d.records.lock(ctx, name)
		d.give(d.records.key(name, ".lock"))
		if err != nil {
			return nil, nil, fmt.Errorf("lock the name's orders: %w", err)
		}
		if taken {
			return held, free, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, nil, errors.New("another process orders for the name just now; try again in a minute")
		}
		time.Sleep(lookedAt)
	}
}

// tryWays tries one way after the other.
func (d *Dry) tryWays(ctx context.Context, name string, rec *record) (err error) {
	for _, w := range d.engine.ways() {
		before := err
		err = d.tryWay(ctx, rec, order{name: name, ca: d.ca, way: w})
		if errors.Is(err, errFloor) && before != nil {
			return before
		}
		if err == nil || ctx.Err() != nil || asOrderError(err).outcome != invalid {
			return err
		}
	}
	return err
}

// tryWay makes an order that is counted first.
func (d *Dry) tryWay(ctx context.Context, rec *record, o order) (err error) {
	now := time.Now()
	if at := rec.room(o.way.validations, now); d.counted && at.After(now) {
		return fmt.Errorf("%w; there is room again at %s", errFloor, at.Format(time.DateTime))
	}
	if o.offers, err = d.engine.ready(ctx, o.ca); err != nil {
		return err
	}
	rec.count(o.way, time.Now())
	if err := d.keep(ctx, o.name, rec); err != nil {
		return err
	}
	failed, err := d.engine.order(ctx, o)
	if err != nil && ctx.Err() != nil {
		return err // how it went is unknown: the worst stays recorded
	}
	rec.settle(o.way, failed)
	return cmp.Or(d.keep(ctx, o.name, rec), err)
}

// keep writes what counts, and nothing else of the server's record is changed.
func (d *Dry) keep(ctx context.Context, name string, rec *record) error {
	if !d.counted {
		return nil
	}
	defer d.give(d.records.key(name, ".json"))
	return d.records.write(context.WithoutCancel(ctx), name, rec)
}

// give makes a file the server's, when it is one.
func (d *Dry) give(key string) {
	if where, ok := d.records.place.(disk); ok {
		giveTo(d.set.StateDir, where.path(key))
	}
}

// laidOut keeps the answers to challenges where a server that runs finds them,
// and all else out of its sight.
type laidOut struct {
	certmagic.Storage
	shared certmagic.Storage
	give   func(key string) // what the server must be able to read
}

func forAll(key string) bool {
	return strings.Contains(key, challengeTokens) || strings.HasSuffix(key, tokenTLS) || strings.HasSuffix(key, tokenHTTP)
}

func (l laidOut) at(key string) certmagic.Storage {
	if forAll(key) {
		return l.shared
	}
	return l.Storage
}

func (l laidOut) Store(ctx context.Context, key string, value []byte) error {
	err := l.at(key).Store(ctx, key, value)
	if forAll(key) {
		l.give(key)
	}
	return err
}

func (l laidOut) Load(ctx context.Context, key string) ([]byte, error) {
	return l.at(key).Load(ctx, key)
}
func (l laidOut) Exists(ctx context.Context, key string) bool  { return l.at(key).Exists(ctx, key) }
func (l laidOut) Delete(ctx context.Context, key string) error { return l.at(key).Delete(ctx, key) }
