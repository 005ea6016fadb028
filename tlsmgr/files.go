package tlsmgr

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"inbox/internal/atomicfile"
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
	tickets           *tickets
	current           atomic.Pointer[tls.Certificate]

	// readSem is a semaphore of one for reading the files, which can block forever.
	// It guards the fields below, except stateErr.
	readSem      chan struct{}
	lastStamp    pairStamp // of the last read
	stampTrusted bool      // whether lastStamp can be trusted
	lastErr      error     // of the last read
	stateErr     atomic.Pointer[error]
}

func newUnloadedFiles(c Config) *files {
	return &files{
		certFile: c.CertFile, keyFile: c.KeyFile, log: c.Logger, interval: fileCheckInterval,
		tickets: c.tickets, readSem: make(chan struct{}, 1),
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
	return withTimeout(diskTimeout, func() {
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
	cert, err := loadKeyPair(f.certFile, f.keyFile, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%w; fix the files, or remove both to use a self-signed certificate", err)
	}
	f.current.Store(cert)
	f.log.Info("certificate", "source", "file", "why", "certificate files exist and no domain is configured",
		"file", f.certFile, "names", namesOf(cert.Leaf), "notAfter", cert.Leaf.NotAfter)
	return f, nil
}

func (f *files) TLSConfig() *tls.Config {
	return f.tickets.configure(serverConfig(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.current.Load(), nil }))
}

func (f *files) HTTPHandler(fallback http.Handler) http.Handler { return fallback }

func (f *files) Run(ctx context.Context) error {
	var background sync.WaitGroup
	background.Go(func() { f.tickets.run(ctx) })
	every(ctx, f.interval, func() { f.exclusiveWithTimeout(f.check) })
	background.Wait()
	return nil
}

func (f *files) Reload() {
	if !f.exclusiveWithTimeout(f.reread) {
		f.reportTimeout()
	}
}

// reread reads the files, whether they changed or not. The caller must hold readSem.
func (f *files) reread() {
	f.lastStamp, f.stampTrusted = f.stamp()
	f.read(true)
}

func (f *files) State() []NameState {
	return statesOf(f.current.Load().Leaf, "file", f.stateError(), time.Time{})
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
	cert, err := loadKeyPair(f.certFile, f.keyFile, time.Now())
	isNew := err != nil && (f.lastErr == nil || f.lastErr.Error() != err.Error())
	f.lastErr = err
	f.stateErr.Store(&err)
	switch {
	case err != nil && (forceLog || isNew):
		f.log.Warn("ignoring invalid certificate files", "err", err)
	case err == nil && !sameChain(cert, f.current.Load()):
		f.current.Store(cert)
		f.log.Info("certificate replaced", "source", "file", "names", namesOf(cert.Leaf), "notAfter", cert.Leaf.NotAfter)
	}
}

// pairStamp changes when one of the two files changes. Stat follows symbolic links,
// so a link to another file changes it too.
type pairStamp struct{ cert, key fileStamp }

type fileStamp struct {
	modified time.Time
	size     int64
	inode    uint64
}

// stamp returns the stamp of the files, and whether it is old enough to be trusted
// (see minStampAge).
func (f *files) stamp() (stamp pairStamp, trusted bool) {
	stamp = pairStamp{stampOf(f.certFile), stampOf(f.keyFile)}
	cutoff := time.Now().Add(-minStampAge)
	return stamp, stamp.cert.modified.Before(cutoff) && stamp.key.modified.Before(cutoff)
}

func stampOf(path string) fileStamp {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{}
	}
	// UTC drops the location, so that stamps compare with ==.
	return fileStamp{info.ModTime().UTC().Round(0), info.Size(), inode(info)}
}

// sameChain compares whole chains, since a chain with an added intermediate has the
// same leaf. It returns false if b is nil.
func sameChain(a, b *tls.Certificate) bool {
	return b != nil && slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}

// maxFileBytes bounds a certificate, key or root file.
const maxFileBytes = 4 << 20

// loadKeyPair reads a certificate chain and its key. A pair that is expired or not
// yet valid is returned together with an error.
func loadKeyPair(certFile, keyFile string, now time.Time) (*tls.Certificate, error) {
	chain, err := atomicfile.Read(certFile, maxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	key, err := atomicfile.Read(keyFile, maxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	cert, err := parseKeyPair(chain, key, now)
	if err != nil {
		return cert, fmt.Errorf("certificate %s with key %s: %w", certFile, keyFile, err)
	}
	return cert, nil
}

func parseKeyPair(chain, key []byte, now time.Time) (*tls.Certificate, error) {
	if isEncrypted(key) {
		return nil, errors.New("the key is encrypted with a passphrase; decrypt it with «openssl pkey -in KEY -out NEWKEY»")
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, err
	}
	return &cert, checkValidity(cert.Leaf, now)
}

func isEncrypted(key []byte) bool {
	block, _ := pem.Decode(key)
	return block != nil && (block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "")
}

func checkValidity(c *x509.Certificate, now time.Time) error {
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("expired on %s", c.NotAfter.Format(time.RFC1123))
	case now.Before(c.NotBefore):
		return fmt.Errorf("not valid before %s; check the system clock", c.NotBefore.Format(time.RFC1123))
	}
	return nil
}
