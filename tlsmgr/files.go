package tlsmgr

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/timeout"
)

// fileCheckInterval is how often the files are checked. A check is two stat calls.
const fileCheckInterval = time.Second

// diskTimeout bounds every wait for a file. While a disk hangs, the current
// certificate stays in use and shutdown is not blocked.
const diskTimeout = 2 * time.Second

// minStampAge is the age from which a file's modification time is trusted to change
// with its content: file systems store it with a granularity of up to two seconds.
const minStampAge = 2 * time.Second

// files serves the key pair of two files to every client and reloads the files when
// they change.
type files struct {
	certFile, keyFile string
	log               *slog.Logger
	interval          time.Duration
	current           atomic.Pointer[tls.Certificate]

	// readSem is a semaphore of one for reading the files, which can block forever.
	// It guards the fields below, except stateErr.
	readSem      chan struct{}
	lastStamp    [2]fileStamp // of both files, at the last read
	stampTrusted bool         // whether lastStamp can be trusted
	lastErr      error        // of the last read
	stateErr     atomic.Pointer[error]
}

func newUnloadedFiles(c Config) *files {
	return &files{
		certFile: c.CertFile, keyFile: c.KeyFile, log: c.Logger,
		interval: fileCheckInterval, readSem: make(chan struct{}, 1),
	}
}

// exclusiveWithTimeout runs do in the background while holding readSem. It waits for
// diskTimeout to get readSem and again for do to return, and reports whether do
// returned in time. While one call hangs, no other starts.
func (f *files) exclusiveWithTimeout(do func()) (done bool) {
	timer := time.NewTimer(diskTimeout)
	defer timer.Stop()
	select {
	case f.readSem <- struct{}{}:
	case <-timer.C:
		return false
	}
	return timeout.Run(diskTimeout, func() {
		defer func() { <-f.readSem }()
		do()
	})
}

// reportTimeout logs a read that timed out, and shows it in State.
func (f *files) reportTimeout() {
	err := fmt.Errorf("timeout reading %s: the disk does not respond; the current certificate stays in use", f.certFile)
	f.stateErr.Store(&err)
	f.log.Warn("cannot read certificate files", "err", err)
}

func newFiles(c Config) (*files, error) {
	f := newUnloadedFiles(c)
	f.lastStamp, f.stampTrusted = f.stamp()
	cert, err := loadValid(f.certFile, f.keyFile, time.Now())
	if cert == nil {
		return nil, fmt.Errorf("%w; fix the files, or remove both to use a self-signed certificate", err)
	}
	f.current.Store(cert)
	// A server that exits would be restarted for ever, and clients get less than a
	// warning. A board without a clock begins before NotBefore.
	if f.lastErr = err; err != nil {
		f.log.Error("the certificate files are not valid now; they are served until they are replaced", "err", err)
	}
	f.warnChain(cert)
	f.log.Info("certificate", "source", "file", "why", "certificate files exist and no domain is configured",
		"file", f.certFile, "names", certs.Names(cert.Leaf), "notAfter", cert.Leaf.NotAfter)
	return f, nil
}

func (f *files) getCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.current.Load(), nil
}

func (f *files) run(ctx context.Context) {
	every(ctx, f.interval, func() { f.exclusiveWithTimeout(f.check) })
}

func (f *files) reload() {
	if !f.exclusiveWithTimeout(f.reread) {
		f.reportTimeout()
	}
}

// readInitial reads fallback files: expired ones are better than none. The caller
// must hold readSem.
func (f *files) readInitial() {
	f.lastStamp, f.stampTrusted = f.stamp()
	if !exists(f.certFile) && !exists(f.keyFile) {
		return
	}
	now := time.Now()
	cert, err := loadValid(f.certFile, f.keyFile, now)
	if cert != nil {
		f.current.Store(cert)
		f.warnChain(cert)
	}
	if f.lastErr = err; err != nil {
		f.log.Warn("the certificate files are not valid now", "err", err)
	}
}

// warnChain warns if clients will miss a certificate of the chain.
func (f *files) warnChain(cert *tls.Certificate) {
	if certs.LacksIntermediate(cert) {
		f.log.Warn("the certificate file lacks the intermediate certificate of its CA, so some clients fail; use the full chain (fullchain.pem)",
			"file", f.certFile)
	}
}

// reread reads the files, whether they changed or not. The caller must hold readSem.
func (f *files) reread() {
	f.lastStamp, f.stampTrusted = f.stamp()
	f.read(true)
}

func (f *files) state() []NameState {
	leaf := f.current.Load().Leaf
	return statesOf(leaf, "file", cmp.Or(f.stateError(), certs.CheckValidity(leaf, time.Now())), time.Time{})
}

func (f *files) stateError() error {
	if p := f.stateErr.Load(); p != nil {
		return *p
	}
	return nil
}

// check reads the files if they changed. After an error it reads them on every call,
// since they can be partially written, but logs each error once. The caller must
// hold readSem.
func (f *files) check() {
	stamp, trusted := f.stamp()
	changed := stamp != f.lastStamp
	if !changed && f.stampTrusted && f.lastErr == nil {
		f.stateErr.Store(nil) // clears an earlier timeout
		return
	}
	f.lastStamp, f.stampTrusted = stamp, trusted
	f.read(changed)
}

// read loads the files and replaces the current certificate if they are valid. An
// error is logged if it differs from the last one, or if forceLog is set.
func (f *files) read(forceLog bool) {
	cert, err := loadValid(f.certFile, f.keyFile, time.Now())
	isNew := err != nil && (f.lastErr == nil || f.lastErr.Error() != err.Error())
	f.lastErr = err
	f.stateErr.Store(&err)
	current := f.current.Load()
	replaces := cert != nil && !certs.SameChain(cert, current) && (err == nil || isBetter(cert, current, time.Now()))
	switch {
	case replaces:
		f.current.Store(cert)
		f.log.Info("certificate replaced", "source", "file", "names", certs.Names(cert.Leaf), "notAfter", cert.Leaf.NotAfter)
		if err != nil {
			f.log.Error("the certificate files are not valid now; they are served until they are replaced", "err", err)
		}
		f.warnChain(cert)
	case err != nil && (forceLog || isNew):
		f.log.Warn("ignoring invalid certificate files", "err", err)
	}
}

// isBetter reports whether a certificate that is not valid now is to be served
// instead of the current one: when that is not valid either, and expires earlier.
func isBetter(cert, current *tls.Certificate, now time.Time) bool {
	return current == nil || !certs.ValidAt(current, now) && cert.Leaf.NotAfter.After(current.Leaf.NotAfter)
}

// fileStamp changes when a file changes. Stat follows symbolic links, so a link to
// another file changes it too.
type fileStamp struct {
	modified time.Time
	size     int64
	inode    uint64
}

// stamp returns the stamp of the files, and whether it is old enough to be trusted
// (see minStampAge).
func (f *files) stamp() (stamp [2]fileStamp, trusted bool) {
	stamp = [2]fileStamp{stampOf(f.certFile), stampOf(f.keyFile)}
	cutoff := time.Now().Add(-minStampAge)
	return stamp, stamp[0].modified.Before(cutoff) && stamp[1].modified.Before(cutoff)
}

func stampOf(path string) fileStamp {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{}
	}
	// UTC drops the location, so that stamps compare with ==.
	return fileStamp{info.ModTime().UTC().Round(0), info.Size(), inode(info)}
}

// loadValid reads a key pair that clients can use. One that is expired or not yet valid
// is returned together with an error.
func loadValid(certFile, keyFile string, now time.Time) (*tls.Certificate, error) {
	cert, err := LoadKeyPair(certFile, keyFile)
	if errors.Is(err, ErrEncryptedKey) {
		return nil, fmt.Errorf("%w; decrypt it with: openssl pkey -in KEY -out NEWKEY", err)
	}
	if err != nil {
		return nil, err
	}
	if err := certs.CheckValidity(cert.Leaf, now); err != nil {
		return cert, fmt.Errorf("certificate %s with key %s: %w", certFile, keyFile, err)
	}
	return cert, nil
}
