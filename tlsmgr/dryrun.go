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

	"inbox/internal/filelock"
)

// InUse tells whether a server runs that answers challenges out of this state
// directory. It writes nothing.
func InUse(stateDir string) bool {
	return stateDir != "" && filelock.Held(filepath.Join(stateDir, acmeDir, scheduleDir, presenceLock))
}

// DryRun makes orders as a server with the same configuration would, and throws
// away what they bring. They go to the place for trials when there is one (Let's
// Encrypt's staging), else to the authority itself: then validations that fail
// are counted in the server's record, whose hard floor holds here too.
//
// A server that runs on the state directory answers the challenges, which are
// laid out there; without one, whoever calls serves TLSConfig and HTTPHandler.
type DryRun struct {
	settings          *settings
	engine            engine
	challenges        *challenges
	schedules         scheduleStore
	ca                *caClient
	countsValidations bool // by the server's record
	tempDir           string
}

// NewDryRun prepares orders. What contradicts itself is an [ErrUsage]. [DryRun.Close]
// removes what it makes.
func NewDryRun(c Config) (*DryRun, error) {
	s, err := resolveConfig(c)
	if err != nil {
		return nil, err
	}
	d := &DryRun{settings: s, ca: s.dryRunCA(), countsValidations: s.dryRunCA() == s.cas[0]}
	if s.Shared == nil && !exists(s.StateDir) {
		s.StateDir = ""
	}
	d.schedules = newScheduleStore(newStorage(s.Config), s)
	if d.countsValidations && d.withoutStorage() {
		return nil, errors.New("there is no state directory yet, and validations that fail at an authority must be recorded; " +
			"start the server once, or make the directory that -state names for the user it runs as")
	}
	if d.tempDir, err = os.MkdirTemp("", "inbox-renew-test-"); err != nil {
		return nil, fmt.Errorf("make a directory for the test: %w", err)
	}
	d.build()
	return d, nil
}

func (d *DryRun) build() {
	tempStorage := dirStorage{d.tempDir, d.settings.Logger}
	buffered := newBufferedStorage(certmagicStorage(tempStorage), d.settings.Logger)
	if !d.withoutStorage() {
		buffered.Storage = challengeStorage{buffered.Storage, certmagicStorage(d.schedules.storage), d.chownFile}
	}
	if d.settings.ACME.Engine == Autocert {
		d.engine = newAutocertEngine(d.settings, buffered, tempStorage)
	} else {
		d.engine = newCertmagicEngine(d.settings, buffered, tempStorage)
	}
	d.challenges = newChallenges(d.settings.names, d.engine, func(string) bool { return false })
}

// withoutStorage is whether there is nothing that a server keeps.
func (d *DryRun) withoutStorage() bool { return d.schedules.storage == noStorage{} }

// TLSConfig answers challenges and nobody else.
func (d *DryRun) TLSConfig() *tls.Config {
	c := serverConfig(func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if !isChallenge(hello) {
			return nil, nil
		}
		return d.challenges.getCertificate(hello)
	})
	c.NextProtos = append(c.NextProtos, acmeALPNProto)
	return c
}

// HTTPHandler answers challenges, and leaves the rest to fallback.
func (d *DryRun) HTTPHandler(fallback http.Handler) http.Handler {
	return d.challenges.httpHandler(fallback)
}

// Close ends what runs in the background, and removes what orders brought.
func (d *DryRun) Close() error {
	d.engine.close()
	return os.RemoveAll(d.tempDir)
}

// Order makes one order for each name, and returns the first error.
func (d *DryRun) Order(ctx context.Context) error {
	for _, name := range d.settings.names {
		if err := d.orderName(ctx, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// lockTimeout is how long the order of another process is waited for.
const lockTimeout = 30 * time.Second

func (d *DryRun) orderName(ctx context.Context, name string) error {
	if d.settings.hasNoAddress(ctx, name) {
		return errNoAddress
	}
	if d.withoutStorage() {
		return d.tryChallengeTypes(ctx, name, new(scheduleState))
	}
	lockCtx, unlock, err := d.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	sched, err := d.schedules.readAndRepair(lockCtx, name, time.Now())
	if d.chownFile(d.schedules.key(name, ".json")); err != nil {
		return err
	}
	return d.tryChallengeTypes(lockCtx, name, sched)
}

// lock keeps the server from ordering for the name, and has it answer for us.
func (d *DryRun) lock(ctx context.Context, name string) (lockCtx context.Context, unlock func(), err error) {
	for deadline := time.Now().Add(lockTimeout); ; {
		lockCtx, unlock, acquired, err := d.schedules.tryLockName(ctx, name)
		d.chownFile(d.schedules.key(name, ".lock"))
		if err != nil {
			return nil, nil, fmt.Errorf("lock the name's orders: %w", err)
		}
		if acquired {
			return lockCtx, unlock, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, nil, errors.New("another process orders for the name just now; try again in a minute")
		}
		time.Sleep(lockCacheTTL)
	}
}

// tryChallengeTypes tries one way after the other.
func (d *DryRun) tryChallengeTypes(ctx context.Context, name string, sched *scheduleState) (err error) {
	for _, ct := range d.engine.challengeTypes() {
		prevErr := err
		err = d.tryChallengeType(ctx, sched, order{name: name, ca: d.ca, challengeType: ct})
		if errors.Is(err, errValidationBudget) && prevErr != nil {
			return prevErr
		}
		if err == nil || ctx.Err() != nil || asOrderError(err).outcome != validationFailed {
			return err
		}
	}
	return err
}

// tryChallengeType makes an order that is counted first.
func (d *DryRun) tryChallengeType(ctx context.Context, sched *scheduleState, o order) (err error) {
	now := time.Now()
	if at := sched.validationsAllowedAt(o.challengeType.validations, now); d.countsValidations && at.After(now) {
		return fmt.Errorf("%w; there is room again at %s", errValidationBudget, at.Format(time.DateTime))
	}
	if o.directory, err = d.engine.probeDirectory(ctx, o.ca); err != nil {
		return err
	}
	sched.countValidations(o.challengeType, time.Now())
	if err := d.saveValidations(ctx, o.name, sched); err != nil {
		return err
	}
	failed, err := d.engine.order(ctx, o)
	if err != nil && ctx.Err() != nil {
		return err // how it went is unknown: the worst stays recorded
	}
	sched.refundValidations(o.challengeType, failed)
	return cmp.Or(d.saveValidations(ctx, o.name, sched), err)
}

// saveValidations writes what counts, and nothing else of the server's record is changed.
func (d *DryRun) saveValidations(ctx context.Context, name string, sched *scheduleState) error {
	if !d.countsValidations {
		return nil
	}
	defer d.chownFile(d.schedules.key(name, ".json"))
	return d.schedules.write(context.WithoutCancel(ctx), name, sched)
}

// chownFile makes a file the server's, when it is one.
func (d *DryRun) chownFile(key string) {
	if dir, ok := d.schedules.storage.(dirStorage); ok {
		chownLikeDir(d.settings.StateDir, dir.path(key))
	}
}

// challengeStorage keeps the answers to challenges where a server that runs finds them,
// and all else out of its sight.
type challengeStorage struct {
	certmagic.Storage
	shared certmagic.Storage
	chown  func(key string) // what the server must be able to read
}

func isChallengeKey(key string) bool {
	return strings.Contains(key, challengeTokensDir) || strings.HasSuffix(key, tlsALPN01Suffix) || strings.HasSuffix(key, http01Suffix)
}

func (c challengeStorage) storageFor(key string) certmagic.Storage {
	if isChallengeKey(key) {
		return c.shared
	}
	return c.Storage
}

func (c challengeStorage) Store(ctx context.Context, key string, value []byte) error {
	err := c.storageFor(key).Store(ctx, key, value)
	if isChallengeKey(key) {
		c.chown(key)
	}
	return err
}

func (c challengeStorage) Load(ctx context.Context, key string) ([]byte, error) {
	return c.storageFor(key).Load(ctx, key)
}
func (c challengeStorage) Exists(ctx context.Context, key string) bool {
	return c.storageFor(key).Exists(ctx, key)
}
func (c challengeStorage) Delete(ctx context.Context, key string) error {
	return c.storageFor(key).Delete(ctx, key)
}
