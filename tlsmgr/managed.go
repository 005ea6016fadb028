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
	set        *settings
	chain      *chain
	manual     *files
	followed   *tls.Certificate // the last one of the files that was looked at
	engine     engine
	challenges *challenges
	supervisor *supervisor
}

// acmeDir is where all of it is kept, within the state directory.
const acmeDir = "acme"

// scheduleDir is where the records are, within that.
const scheduleDir = "schedule"

func newManaged(c Config) (*managed, error) {
	s, err := check(c)
	if err != nil {
		return nil, err
	}
	m := &managed{set: s, chain: newChain(s.names)}
	where := newPlace(s.Config)
	keep := newKeeper(storageOf(where), s.Logger)
	if s.ACME.Engine == Autocert {
		m.engine = newAutocert(s, keep, where)
	} else {
		m.engine = newCertmagic(s, keep, where)
	}
	recs := newRecords(where, s)
	m.supervisor = newSupervisor(s, m.engine, keep, recs, m.chain)
	m.challenges = newChallenges(s.names, m.engine, recs.ordering)
	m.startManual()
	m.loadStored()
	m.announce()
	return m, nil
}

// startManual reads the files, if there are any. They only stand in, so what is
// wrong with them, or with their disk, is a warning.
func (m *managed) startManual() {
	f := newPair(m.set.Config)
	m.manual = f
	if f.certFile == "" && f.keyFile == "" {
		return
	}
	if !f.atDisk(func() { f.begin(); m.follow() }) {
		f.stuck()
	}
}

// begin reads files that only stand in; ones that have ended are better than
// none. The caller is at the disk.
func (f *files) begin() {
	f.seen, f.settled = f.stamp()
	if !exists(f.certFile) && !exists(f.keyFile) {
		return
	}
	now := time.Now()
	cert, err := loadPair(f.certFile, f.keyFile, now)
	if cert != nil && !now.Before(cert.Leaf.NotBefore) {
		f.current.Store(cert)
	}
	if f.lastErr = err; err != nil {
		f.log.Warn("the certificate files are of no use now", "err", err)
	}
}

// follow takes the files' certificate over when it has changed, unless it is
// for other names. The caller is at the disk, so that of two the newer is last.
func (m *managed) follow() {
	cert := m.manual.current.Load()
	if cert == nil || m.followed == cert {
		return
	}
	m.followed = cert
	if !slices.ContainsFunc(m.set.names, func(name string) bool { return covers(cert.Leaf, name) }) {
		m.set.Logger.Warn("the certificate files are for other names and are not used", "names", namesOf(cert.Leaf))
		return
	}
	m.chain.setManual(cert)
}

// startTime bounds the wait for a slow disk at the start.
const startTime = 2 * time.Second

// loadStored takes up what is in store before the first handshake.
func (m *managed) loadStored() {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	var all sync.WaitGroup
	for _, t := range m.supervisor.tasks {
		t.working.Lock()
		all.Go(func() {
			defer t.working.Unlock()
			m.supervisor.recall(t)
			m.supervisor.look(ctx, t)
			m.supervisor.recallServed(t, time.Now())
		})
	}
	if !doneIn(startTime, all.Wait) {
		m.set.Logger.Warn("the state directory is slow; starting without what is stored there")
	}
}

// doneIn waits for what may hang in a disk or a library, and tells whether it ended.
func doneIn(limit time.Duration, do func()) bool {
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-done:
		return true
	case <-late.C:
		return false
	}
}

// announce says which source serves each name, and why, in one line.
func (m *managed) announce() {
	now := time.Now()
	var serves []string
	for _, name := range m.set.names {
		text := name + " by nothing yet"
		switch cert, source := m.chain.pick(name, now); {
		case source == "acme":
			text = fmt.Sprintf("%s by its certificate, until %s", name, cert.Leaf.NotAfter.Format(time.DateTime))
		case source == "file":
			text = fmt.Sprintf("%s by the files, until there is a certificate", name)
		}
		serves = append(serves, text)
	}
	m.set.Logger.Info("certificate", "source", "acme", "why", "domains are named", "engine", m.set.ACME.Engine,
		"ca", m.set.ACME.CA.URL, "served", strings.Join(serves, "; "))
	if where := m.supervisor.records.place; where == (nowhere{}) {
		m.set.Logger.Warn("no certificate will be ordered", "err", errNoState)
	}
}

func (m *managed) TLSConfig() *tls.Config {
	c := serverConfig(m.certificate)
	c.NextProtos = append(c.NextProtos, acmeProtocol)
	return m.set.tickets.on(c)
}

// certificate reads memory, but for challenges while an order runs. (nil, nil)
// makes crypto/tls send unrecognized_name.
func (m *managed) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if isChallenge(hello) {
		return m.challenges.tls(hello)
	}
	name := m.chain.named(hello)
	if name == "" {
		return nil, nil
	}
	cert, _ := m.chain.pick(name, time.Now())
	return cert, nil
}

// HTTPHandler answers challenges whether or not this server orders over them:
// another one on the same store may.
func (m *managed) HTTPHandler(fallback http.Handler) http.Handler {
	return m.challenges.http(fallback)
}

func (m *managed) Run(ctx context.Context) error {
	var background sync.WaitGroup
	background.Go(func() { m.supervisor.run(ctx) })
	attending := make(chan func(), 1) // of its own: the disk may hang
	go func() { attending <- m.supervisor.records.attend() }()
	defer doneIn(endTime, func() { (<-attending)() })
	background.Go(func() { m.set.tickets.run(ctx) })
	every(ctx, checkFiles, func() {
		if m.set.CertFile != "" {
			m.manual.atDisk(func() { m.manual.check(); m.follow() })
		}
	})
	background.Wait()
	m.engine.close()
	return nil
}

func (m *managed) Reload() {
	m.supervisor.urge()
	if m.set.CertFile != "" && !m.manual.atDisk(m.reread) {
		m.manual.stuck()
	}
}

func (m *managed) reread() {
	if exists(m.set.CertFile) || exists(m.set.KeyFile) {
		m.manual.reread()
		m.follow()
	}
}

func (m *managed) State() []NameState {
	now := time.Now()
	var states []NameState
	for _, t := range m.supervisor.tasks {
		states = append(states, m.stateOf(t, now))
	}
	return states
}

func (m *managed) stateOf(t *task, now time.Time) NameState {
	st := t.get()
	n := NameState{
		Name: t.name, LastError: st.problem, LastAttempt: st.tried, NextAttempt: st.next,
		Engine: m.set.ACME.Engine, CA: m.set.ACME.CA.URL, Status: st.status,
		RenewAt: st.renewAt, Failures: st.failures, Obtained: st.obtained,
	}
	cert, source := m.chain.pick(t.name, now)
	if cert != nil {
		n.Source, n.Issuer = source, cert.Leaf.Issuer.CommonName
		n.NotBefore, n.NotAfter, n.Fingerprint = cert.Leaf.NotBefore, cert.Leaf.NotAfter, Fingerprint(cert.Leaf)
	}
	return n
}
