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

// scripted is an engine without an authority: it answers orders as told, and
// notes when they came.
type scripted struct {
	mu     sync.Mutex
	answer func(order) (failed int, err error)
	life   time.Duration
	asked  []time.Time
	places []string // which authority was asked
	store  map[string]*stored
	info   func(*stored) (renewalInfo, error)
	doors  []challengeType
	unread error            // of what else is in store
	wake   func()           // what happens between the lock and the order
	reach  func() error     // whether the authority is there; nil: it is
	away   map[string]error // authorities that are not, by their URL
	make   func(name string, life time.Duration) *tls.Certificate
}

func (e *scripted) load(_ context.Context, name string) ([]*stored, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []*stored
	for key, s := range e.store {
		if key == name || strings.HasPrefix(key, name+" of ") {
			all = append(all, s)
		}
	}
	return all, e.unread
}

func (e *scripted) quarantineDamaged(context.Context, string) {
	if e.wake != nil {
		e.wake()
	}
}
func (e *scripted) challengeTypes() []challengeType { return e.doors }
func (e *scripted) close()                          {}

func (e *scripted) probeDirectory(_ context.Context, ca *caClient) (*directory, error) {
	if err := e.away[ca.url]; err != nil {
		return nil, err
	}
	if e.reach == nil {
		return new(directory), nil
	}
	return new(directory), e.reach()
}

func (e *scripted) order(_ context.Context, o order) (int, error) {
	e.mu.Lock()
	e.asked = append(e.asked, time.Now())
	e.places = append(e.places, o.ca.url)
	answer := e.answer
	e.mu.Unlock()
	failed, err := answer(o) // may take its time
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil && o.ca.url != "trial" { // of which nobody loads
		key := o.name
		if o.ca.url != "first" {
			key += " of " + o.ca.url
		}
		e.store[key] = &stored{e.make(o.name, e.life), o.ca}
	}
	return failed, err
}

func (e *scripted) fetchRenewalInfo(_ context.Context, s *stored) (renewalInfo, error) {
	if e.info == nil {
		return renewalInfo{}, errNoRenewalInfo
	}
	return e.info(s)
}

func (e *scripted) answerTLS(*tls.ClientHelloInfo, bool) (*tls.Certificate, error) { return nil, nil }
func (e *scripted) answerHTTP(*http.Request, bool) []byte                          { return nil }

// since are the times of the orders, counted from a start.
func (e *scripted) since(start time.Time) []time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []time.Duration
	for _, at := range e.asked {
		all = append(all, at.Sub(start).Round(time.Second))
	}
	return all
}

func (e *scripted) set(answer func(order) (int, error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func granted(order) (int, error) { return 0, nil }

func unreachable(order) (int, error) { return 0, errors.New("connection refused") }

func declined(order) (int, error) {
	return 0, &orderError{outcome: caRejected, err: errors.New("caa forbids it")}
}

func unproved(o order) (int, error) {
	return o.challengeType.validations, &orderError{outcome: validationFailed, err: errors.New("connection refused by the name")}
}

const theName = "one.example"

// supervised is a supervisor with a scripted engine, on a disk of its own.
type supervised struct {
	*scheduler
	engine *scripted
	log    *logBuffer
	dir    string
}

func newSupervised(t *testing.T, dir string, answer func(order) (int, error)) *supervised {
	t.Helper()
	log, buf := newLog()
	first := &caClient{url: "first", storageKey: "first"}
	s := &settings{names: []string{theName}, cas: []*caClient{first}, Config: Config{Logger: log}}
	e := &scripted{answer: answer, life: 90 * 24 * time.Hour, store: map[string]*stored{}, doors: []challengeType{{tlsALPN01, 1}, {http01, 1}}}
	e.make = func(name string, life time.Duration) *tls.Certificate {
		return pairIn(t, name, time.Now(), time.Now().Add(life))
	}
	var where storage = noStorage{}
	if dir != "" {
		where = dirStorage{dir, log}
	}
	return superviseIn(where, s, e, buf, dir)
}

func superviseIn(p storage, s *settings, e *scripted, buf *logBuffer, dir string) *supervised {
	keep := newBufferedStorage(certmagicStorage(p), s.Logger)
	return &supervised{newScheduler(s, e, keep, newScheduleStore(p, s), newCertTable(s.names)), e, buf, dir}
}

// runFor lets a supervisor work in a time that passes at once.
func (s *supervised) runFor(t *testing.T, d time.Duration) {
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
