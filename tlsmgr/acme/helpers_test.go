package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/tlstest"
	"inbox/tlsmgr/storage"
)

// fakeEngine is an engine without a CA. It calls onOrder for orders and records them.
type fakeEngine struct {
	mu                sync.Mutex
	onOrder           func(Order) (failed int, err error)
	lifetime          time.Duration
	orderTimes        []time.Time
	orderCAs          []string // the CA of each order
	certs             map[string]*Certificate
	ariResponse       func(*Certificate) (schedule.ARI, error)
	challengeTypeList []ChallengeType
	loadErr           error            // returned by Load with the certificates
	beforeOrder       func()           // called between lock and order
	readyFunc         func() error     // result of probe; nil: success
	readyErrs         map[string]error // errors of probe, by CA URL
	makeCert          func(name string, life time.Duration) *tls.Certificate
}

func (e *fakeEngine) Name() string { return "fake" }

func (e *fakeEngine) Load(_ context.Context, name string) ([]*Certificate, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []*Certificate
	for key, s := range e.certs {
		if key == name || strings.HasPrefix(key, name+" of ") {
			all = append(all, s)
		}
	}
	return all, e.loadErr
}

func (e *fakeEngine) QuarantineDamaged(context.Context, storage.Storage, string) {
	if e.beforeOrder != nil {
		e.beforeOrder()
	}
}
func (e *fakeEngine) Account(context.Context, *CAClient) (Account, error) { return Account{}, nil }
func (e *fakeEngine) ChallengeTypes() []ChallengeType                     { return e.challengeTypeList }
func (e *fakeEngine) Close()                                              {}

func (e *fakeEngine) probe(_ context.Context, ca *CAClient) (*Directory, error) {
	if err := e.readyErrs[ca.URL]; err != nil {
		return nil, err
	}
	if e.readyFunc == nil {
		return new(Directory), nil
	}
	return new(Directory), e.readyFunc()
}

func (e *fakeEngine) Order(_ context.Context, o Order) (int, error) {
	e.mu.Lock()
	e.orderTimes = append(e.orderTimes, time.Now())
	e.orderCAs = append(e.orderCAs, o.CA.URL)
	onOrder := e.onOrder
	e.mu.Unlock()
	failed, err := onOrder(o) // without the mutex, since it can block
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil && o.CA.URL != "staging" { // staging certificates are not loaded
		key := o.Name
		if o.CA.URL != "first" {
			key += " of " + o.CA.URL
		}
		e.certs[key] = &Certificate{e.makeCert(o.Name, e.lifetime), o.CA}
	}
	return failed, err
}

func (e *fakeEngine) RenewalInfo(_ context.Context, s *Certificate) (schedule.ARI, error) {
	if e.ariResponse == nil {
		return schedule.ARI{}, ErrNoRenewalInfo
	}
	return e.ariResponse(s)
}

func (e *fakeEngine) AnswerTLS(*tls.ClientHelloInfo, bool) (*tls.Certificate, error) { return nil, nil }
func (e *fakeEngine) AnswerHTTP(*http.Request, bool) []byte                          { return nil }

// ordersSince returns the times of the orders, relative to start.
func (e *fakeEngine) ordersSince(start time.Time) []time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []time.Duration
	for _, at := range e.orderTimes {
		all = append(all, at.Sub(start).Round(time.Second))
	}
	return all
}

func (e *fakeEngine) setOnOrder(onOrder func(Order) (int, error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.onOrder = onOrder
}

func orderSucceeds(Order) (int, error) { return 0, nil }

func orderUnreachable(Order) (int, error) { return 0, errors.New("connection refused") }

func orderRefused(Order) (int, error) {
	return 0, &OrderError{Outcome: schedule.CARejected, Err: errors.New("forbidden by CAA")}
}

func orderFailsValidation(o Order) (int, error) {
	return o.ChallengeType.Validations, &OrderError{Outcome: schedule.ValidationFailed, Err: errors.New("challenge: connection refused")}
}

const testName = "one.example"

// testScheduler is a scheduler with a fake engine.
type testScheduler struct {
	*scheduler
	engine *fakeEngine
	log    *tlstest.LogBuffer

	mu     sync.Mutex
	latest *tls.Certificate // for testName
}

// newTestScheduler returns a scheduler with storage in dir, or without storage if dir is "".
func newTestScheduler(t *testing.T, dir string, onOrder func(Order) (int, error)) *testScheduler {
	t.Helper()
	log, buf := tlstest.NewLog()
	s := &Settings{Names: []string{testName}, CAs: []*CAClient{{URL: "first", StorageKey: "first"}}, Log: log}
	e := &fakeEngine{onOrder: onOrder, lifetime: 90 * 24 * time.Hour, certs: map[string]*Certificate{}, challengeTypeList: []ChallengeType{{TLSALPN01, 1}, {HTTP01, 1}}}
	e.makeCert = func(name string, life time.Duration) *tls.Certificate {
		return tlstest.TLSPair(t, name, time.Now(), time.Now().Add(life))
	}
	return newTestSchedulerOn(storage.NewDirectory(dir, log), s, e, buf)
}

func newTestSchedulerOn(store storage.Storage, s *Settings, e *fakeEngine, buf *tlstest.LogBuffer) *testScheduler {
	ts := &testScheduler{engine: e, log: buf}
	ts.scheduler = newScheduler(s, e, storage.NewBuffered(store, s.Log), records{storage: store, cas: s.caURLs(), log: s.Log}, func(_ string, cert *tls.Certificate) {
		ts.mu.Lock()
		defer ts.mu.Unlock()
		ts.latest = cert
	})
	ts.probe = e.probe
	close(ts.workers[0].restored)
	return ts
}

// served returns the last certificate that OnCertificate received, or nil.
func (s *testScheduler) served() *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest
}

// setCAs changes the CAs of the scheduler.
func (s *testScheduler) setCAs(cas ...*CAClient) {
	s.Settings.CAs = cas
	s.records.cas = s.Settings.caURLs()
}

// err returns the error of the name, nil for none.
func (s *testScheduler) err() error {
	v := s.workers[0].get()
	return v.err(time.Now())
}

// stored returns the stored schedule of the name.
func (s *testScheduler) stored(t *testing.T) schedule.State {
	t.Helper()
	state, _, err := s.records.load(t.Context(), testName, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// store replaces the stored schedule of the name.
func (s *testScheduler) store(t *testing.T, state schedule.State) {
	t.Helper()
	if err := saveJSON(t.Context(), s.records.storage, recordKey(testName, ".json"), state); err != nil {
		t.Fatal(err)
	}
}

// runFor runs the scheduler for a time, which is fake inside a synctest bubble.
func (s *testScheduler) runFor(t *testing.T, d time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	s.run(ctx)
}

func minutes(all ...float64) []time.Duration {
	var ds []time.Duration
	for _, m := range all {
		ds = append(ds, time.Duration(m*float64(time.Minute)).Round(time.Second))
	}
	return ds
}

func seconds(all ...int) []time.Duration {
	var ds []time.Duration
	for _, n := range all {
		ds = append(ds, time.Duration(n)*time.Second)
	}
	return ds
}

// renewAt returns when the certificate of the name is due.
func (s *testScheduler) renewAt() time.Time {
	v := s.workers[0].get()
	return v.renewAt()
}
