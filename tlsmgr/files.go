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

// fileCheckInterval is how often the files are looked at. A look is two stat calls.
const fileCheckInterval = time.Second

// diskTimeout is how long anybody waits for the disk that the files are on. One that
// hangs keeps the old certificate in use, and nobody from stopping.
const diskTimeout = 2 * time.Second

// minStampAge is how old a file must be before its time stamp is trusted to
// change with its content: file systems count in steps of up to two seconds.
const minStampAge = 2 * time.Second

// files serves the pair in two files to every hello, and follows changes.
type files struct {
	certFile, keyFile string
	log               *slog.Logger
	interval          time.Duration
	tickets           *tickets
	current           atomic.Pointer[tls.Certificate]

	// readSem holds a token while somebody reads, which may take for ever; only they
	// use what stands below.
	readSem      chan struct{}
	lastStamp    pairStamp // of the last reading
	stampTrusted bool      // whether seen can be trusted
	lastErr      error     // of the last reading
	stateErr     atomic.Pointer[error]
}

func newUnloadedFiles(c Config) *files {
	return &files{certFile: c.CertFile, keyFile: c.KeyFile, log: c.Logger, interval: fileCheckInterval, tickets: c.tickets, readSem: make(chan struct{}, 1)}
}

// exclusiveWithTimeout does one thing with the files in the background, when nobody else
// does, and waits for diskTime at most. While one thing hangs no other is begun.
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

// reportTimeout is for a disk that did not answer in time.
func (f *files) reportTimeout() {
	err := fmt.Errorf("the disk of %s does not answer; the certificate in use stays", f.certFile)
	f.stateErr.Store(&err)
	f.log.Warn("read the certificate files", "err", err)
}

func newFiles(c Config) (*files, error) {
	f := newUnloadedFiles(c)
	f.lastStamp, f.stampTrusted = f.stamp()
	cert, err := loadKeyPair(f.certFile, f.keyFile, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%w; mend the files, or move both away to be given a self-signed certificate", err)
	}
	f.current.Store(cert)
	f.log.Info("certificate", "source", "file", "why", "the files exist, and no domain is named", "file", f.certFile, "names", namesOf(cert.Leaf), "notAfter", cert.Leaf.NotAfter)
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

// reread reads the files, changed or not. The caller is at the disk.
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

// check reads the files when they changed. A pair that was bad is read again
// each time, since the writing of it may not have been over; it is spoken of
// once. The caller is at the disk.
func (f *files) check() {
	stamp, trusted := f.stamp()
	changed := stamp != f.lastStamp
	if !changed && f.stampTrusted && f.lastErr == nil {
		f.stateErr.Store(nil) // the disk answers
		return
	}
	f.lastStamp, f.stampTrusted = stamp, trusted
	f.read(changed)
}

// read takes what the files hold now, if that is any good.
func (f *files) read(forceLog bool) {
	cert, err := loadKeyPair(f.certFile, f.keyFile, time.Now())
	isNew := err != nil && (f.lastErr == nil || f.lastErr.Error() != err.Error())
	f.lastErr = err
	f.stateErr.Store(&err)
	switch {
	case err != nil && (forceLog || isNew):
		f.log.Warn("the new certificate is not usable, the old one stays", "err", err)
	case err == nil && !sameChain(cert, f.current.Load()):
		f.current.Store(cert)
		f.log.Info("certificate replaced", "source", "file", "names", namesOf(cert.Leaf), "notAfter", cert.Leaf.NotAfter)
	}
}

// pairStamp changes when one of the two files does. Stat follows links, so a
// link that is turned to another file changes it too.
type pairStamp struct{ cert, key fileStamp }

type fileStamp struct {
	modified time.Time
	size     int64
	inode    uint64
}

// stamp also tells whether the stamp is old enough to be trusted.
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

// sameChain compares whole chains: a chain that was incomplete is mended by one
// with the same leaf. It is false for a certificate that replaces none.
func sameChain(a, b *tls.Certificate) bool {
	return b != nil && slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}

// maxFileBytes is more than any chain, key or list of roots has.
const maxFileBytes = 4 << 20

// loadKeyPair reads a chain and its key. It returns an error unless a client
// could accept them now; one that is whole, but not in time, comes with it.
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
		return nil, errors.New("the key is locked with a passphrase; unlock it with «openssl pkey -in KEY -out NEWKEY»")
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
		return fmt.Errorf("it ended on %s", c.NotAfter.Format(time.RFC1123))
	case now.Before(c.NotBefore):
		return fmt.Errorf("it begins only on %s; is the clock right?", c.NotBefore.Format(time.RFC1123))
	}
	return nil
}
