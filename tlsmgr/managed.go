package tlsmgr

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// managed serves the configured names with certificates of an authority, and
// with the files where there is none.
type managed struct {
	settings   *settings
	certs      *certTable
	static     *files
	lastStatic *tls.Certificate // the last one of the files that was looked at
	engine     engine
	challenges *challenges
	scheduler  *scheduler
}

// acmeDir is where all of it is kept, within the state directory.
const acmeDir = "acme"

// scheduleDir is where the records are, within that.
const scheduleDir = "schedule"

func newManaged(c Config) (*managed, error) {
	s, err := resolveConfig(c)
	if err != nil {
		return nil, err
	}
	m := &managed{settings: s, certs: newCertTable(s.names)}
	store := newStorage(s.Config)
	buffered := newBufferedStorage(certmagicStorage(store), s.Logger)
	if s.ACME.Engine == Autocert {
		m.engine = newAutocertEngine(s, buffered, store)
	} else {
		m.engine = newCertmagicEngine(s, buffered, store)
	}
	schedules := newScheduleStore(store, s)
	m.scheduler = newScheduler(s, m.engine, buffered, schedules, m.certs)
	m.challenges = newChallenges(s.names, m.engine, schedules.orderInProgress)
	m.loadStatic()
	m.loadStored()
	m.announce()
	return m, nil
}

// loadStatic reads the files, if there are any. They only stand in, so what is
// wrong with them, or with their disk, is a warning.
func (m *managed) loadStatic() {
	f := newUnloadedFiles(m.settings.Config)
	m.static = f
	if f.certFile == "" && f.keyFile == "" {
		return
	}
	if !f.exclusiveWithTimeout(func() { f.readInitial(); m.applyStatic() }) {
		f.reportTimeout()
	}
}

// readInitial reads files that only stand in; ones that have ended are better than
// none. The caller is at the disk.
func (f *files) readInitial() {
	f.lastStamp, f.stampTrusted = f.stamp()
	if !exists(f.certFile) && !exists(f.keyFile) {
		return
	}
	now := time.Now()
	cert, err := loadKeyPair(f.certFile, f.keyFile, now)
	if cert != nil && !now.Before(cert.Leaf.NotBefore) {
		f.current.Store(cert)
	}
	if f.lastErr = err; err != nil {
		f.log.Warn("the certificate files are of no use now", "err", err)
	}
}

// applyStatic takes the files' certificate over when it has changed, unless it is
// for other names. The caller is at the disk, so that of two the newer is last.
func (m *managed) applyStatic() {
	cert := m.static.current.Load()
	if cert == nil || m.lastStatic == cert {
		return
	}
	m.lastStatic = cert
	if !slices.ContainsFunc(m.settings.names, func(name string) bool { return covers(cert.Leaf, name) }) {
		m.settings.Logger.Warn("the certificate files are for other names and are not used", "names", namesOf(cert.Leaf))
		return
	}
	m.certs.setStatic(cert)
}

// startTimeout bounds the wait for a slow disk at the start.
const startTimeout = 2 * time.Second

// loadStored takes up what is in store before the first handshake.
func (m *managed) loadStored() {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var all sync.WaitGroup
	for _, w := range m.scheduler.workers {
		w.workMu.Lock()
		all.Go(func() {
			defer w.workMu.Unlock()
			m.scheduler.restoreSchedule(w)
			m.scheduler.loadCertificate(ctx, w)
			m.scheduler.loadHSTSEligibility(w, time.Now())
		})
	}
	if !withTimeout(startTimeout, all.Wait) {
		m.settings.Logger.Warn("the state directory is slow; starting without what is stored there")
	}
}

// withTimeout waits for what may hang in a disk or a library, and tells whether it ended.
func withTimeout(limit time.Duration, do func()) bool {
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// announce says which source serves each name, and why, in one line.
func (m *managed) announce() {
	now := time.Now()
	var serves []string
	for _, name := range m.settings.names {
		text := name + " by nothing yet"
		switch cert, source := m.certs.pick(name, now); {
		case source == "acme":
			text = fmt.Sprintf("%s by its certificate, until %s", name, cert.Leaf.NotAfter.Format(time.DateTime))
		case source == "file":
			text = fmt.Sprintf("%s by the files, until there is a certificate", name)
		}
		serves = append(serves, text)
	}
	m.settings.Logger.Info("certificate", "source", "acme", "why", "domains are named", "engine", m.settings.ACME.Engine,
		"ca", m.settings.ACME.CA.URL, "served", strings.Join(serves, "; "))
	if store := m.scheduler.schedules.storage; store == (noStorage{}) {
		m.settings.Logger.Warn("no certificate will be ordered", "err", errNoStateDir)
	}
}

func (m *managed) TLSConfig() *tls.Config {
	c := serverConfig(m.certificate)
	c.NextProtos = append(c.NextProtos, acmeALPNProto)
	return m.settings.tickets.configure(c)
}

// certificate reads memory, but for challenges while an order runs. (nil, nil)
// makes crypto/tls send unrecognized_name.
func (m *managed) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if isChallenge(hello) {
		return m.challenges.getCertificate(hello)
	}
	name := m.certs.requestedName(hello)
	if name == "" {
		return nil, nil
	}
	cert, _ := m.certs.pick(name, time.Now())
	return cert, nil
}

// HTTPHandler answers challenges whether or not this server orders over them:
// another one on the same store may.
func (m *managed) HTTPHandler(fallback http.Handler) http.Handler {
	return m.challenges.httpHandler(fallback)
}

func (m *managed) Run(ctx context.Context) error {
	var background sync.WaitGroup
	background.Go(func() { m.scheduler.run(ctx) })
	releasePresence := make(chan func(), 1) // of its own: the disk may hang
	go func() { releasePresence <- m.scheduler.schedules.holdPresenceLock() }()
	defer withTimeout(shutdownTimeout, func() { (<-releasePresence)() })
	background.Go(func() { m.settings.tickets.run(ctx) })
	every(ctx, fileCheckInterval, func() {
		if m.settings.CertFile != "" {
			m.static.exclusiveWithTimeout(func() { m.static.check(); m.applyStatic() })
		}
	})
	background.Wait()
	m.engine.close()
	return nil
}

func (m *managed) Reload() {
	m.scheduler.forceRenewAll()
	if m.settings.CertFile != "" && !m.static.exclusiveWithTimeout(m.reread) {
		m.static.reportTimeout()
	}
}

func (m *managed) reread() {
	if exists(m.settings.CertFile) || exists(m.settings.KeyFile) {
		m.static.reread()
		m.applyStatic()
	}
}

func (m *managed) State() []NameState {
	now := time.Now()
	var states []NameState
	for _, w := range m.scheduler.workers {
		states = append(states, m.stateOf(w, now))
	}
	return states
}

func (m *managed) stateOf(w *nameWorker, now time.Time) NameState {
	st := w.getState()
	n := NameState{
		Name: w.name, LastError: st.lastErr, LastAttempt: st.lastAttempt, NextAttempt: st.nextAttempt,
		Engine: m.settings.ACME.Engine, CA: m.settings.ACME.CA.URL, Status: st.status,
		RenewAt: st.renewAt, Failures: st.failures, Obtained: st.obtained,
	}
	cert, source := m.certs.pick(w.name, now)
	if cert != nil {
		n.Source, n.Issuer = source, cert.Leaf.Issuer.CommonName
		n.NotBefore, n.NotAfter, n.Fingerprint = cert.Leaf.NotBefore, cert.Leaf.NotAfter, Fingerprint(cert.Leaf)
	}
	return n
}
