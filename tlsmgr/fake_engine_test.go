package tlsmgr

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeEngine is an engine without a CA. It answers orders with onOrder and records
// them.
type fakeEngine struct {
	mu                sync.Mutex
	onOrder           func(order) (failed int, err error)
	lifetime          time.Duration
	orderTimes        []time.Time
	orderCAs          []string // the CA of each order
	certs             map[string]*stored
	ariResponse       func(*stored) (renewalInfo, error)
	challengeTypeList []challengeType
	loadErr           error            // returned by load with the certificates
	beforeOrder       func()           // called between lock and order
	readyFunc         func() error     // result of probeDirectory; nil: success
	readyErrs         map[string]error // errors of probeDirectory, by CA URL
	makeCert          func(name string, life time.Duration) *tls.Certificate
}

func (e *fakeEngine) load(_ context.Context, name string) ([]*stored, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []*stored
	for key, s := range e.certs {
		if key == name || strings.HasPrefix(key, name+" of ") {
			all = append(all, s)
		}
	}
	return all, e.loadErr
}

func (e *fakeEngine) quarantineDamaged(context.Context, string) {
	if e.beforeOrder != nil {
		e.beforeOrder()
	}
}
func (e *fakeEngine) challengeTypes() []challengeType { return e.challengeTypeList }
func (e *fakeEngine) close()                          {}

func (e *fakeEngine) probeDirectory(_ context.Context, ca *caClient) (*directory, error) {
	if err := e.readyErrs[ca.url]; err != nil {
		return nil, err
	}
	if e.readyFunc == nil {
		return new(directory), nil
	}
	return new(directory), e.readyFunc()
}

func (e *fakeEngine) order(_ context.Context, o order) (int, error) {
	e.mu.Lock()
	e.orderTimes = append(e.orderTimes, time.Now())
	e.orderCAs = append(e.orderCAs, o.ca.url)
	onOrder := e.onOrder
	e.mu.Unlock()
	failed, err := onOrder(o) // without the mutex, since it can block
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil && o.ca.url != "staging" { // staging certificates are not loaded
		key := o.name
		if o.ca.url != "first" {
			key += " of " + o.ca.url
		}
		e.certs[key] = &stored{e.makeCert(o.name, e.lifetime), o.ca}
	}
	return failed, err
}

func (e *fakeEngine) fetchRenewalInfo(_ context.Context, s *stored) (renewalInfo, error) {
	if e.ariResponse == nil {
		return renewalInfo{}, errNoRenewalInfo
	}
	return e.ariResponse(s)
}

func (e *fakeEngine) answerTLS(*tls.ClientHelloInfo, bool) (*tls.Certificate, error) { return nil, nil }
func (e *fakeEngine) answerHTTP(*http.Request, bool) []byte                          { return nil }

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

func (e *fakeEngine) setOnOrder(onOrder func(order) (int, error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.onOrder = onOrder
}

func orderSucceeds(order) (int, error) { return 0, nil }

func orderUnreachable(order) (int, error) { return 0, errors.New("connection refused") }

func orderRefused(order) (int, error) {
	return 0, &orderError{outcome: caRejected, err: errors.New("forbidden by CAA")}
}

func orderFailsValidation(o order) (int, error) {
	return o.challengeType.validations, &orderError{outcome: validationFailed, err: errors.New("challenge: connection refused")}
}

const testName = "one.example"

// testScheduler is a scheduler with a fake engine.
type testScheduler struct {
	*scheduler
	engine *fakeEngine
	log    *logBuffer
	dir    string
}

func newTestScheduler(t *testing.T, dir string, onOrder func(order) (int, error)) *testScheduler {
	t.Helper()
	log, buf := newLog()
	first := &caClient{url: "first", storageKey: "first"}
	s := &settings{names: []string{testName}, cas: []*caClient{first}, Config: Config{Logger: log}}
	e := &fakeEngine{onOrder: onOrder, lifetime: 90 * 24 * time.Hour, certs: map[string]*stored{}, challengeTypeList: []challengeType{{tlsALPN01, 1}, {http01, 1}}}
	e.makeCert = func(name string, life time.Duration) *tls.Certificate {
		return tlsPair(t, name, time.Now(), time.Now().Add(life))
	}
	var store storage = noStorage{}
	if dir != "" {
		store = dirStorage{dir, log}
	}
	return newTestSchedulerOn(store, s, e, buf, dir)
}

func newTestSchedulerOn(p storage, s *settings, e *fakeEngine, buf *logBuffer, dir string) *testScheduler {
	buffered := newBufferedStorage(certmagicStorage(p), s.Logger)
	return &testScheduler{newScheduler(s, e, buffered, newScheduleStore(p, s), newCertTable(s.names)), e, buf, dir}
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
