package acme

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// slowChallengeEngine is an engine whose storage lookups block until unblock is closed.
type slowChallengeEngine struct {
	fakeEngine
	unblock        chan struct{}
	storageLookups int
}

func (e *slowChallengeEngine) AnswerTLS(_ *tls.ClientHelloInfo, fromStorage bool) (*tls.Certificate, error) {
	if fromStorage {
		<-e.unblock
	}
	return nil, errors.New("none")
}

func (e *slowChallengeEngine) AnswerHTTP(_ *http.Request, fromStorage bool) []byte {
	if !fromStorage {
		return nil
	}
	if e.unblock != nil {
		<-e.unblock
	}
	e.storageLookups++
	return []byte("found")
}

func TestStorageLookupsAreBounded(t *testing.T) { synctest.Test(t, testStorageLookupsAreBounded) }

func testStorageLookupsAreBounded(t *testing.T) {
	e := &slowChallengeEngine{unblock: make(chan struct{})}
	defer close(e.unblock)
	c := newChallenges([]string{"one.example"}, e, func(string) bool { return true })
	hello := &tls.ClientHelloInfo{ServerName: "one.example", SupportedProtos: []string{ALPNProto}}
	var clients sync.WaitGroup
	began := time.Now()
	for range maxStorageLookups + 10 {
		clients.Go(func() {
			if cert, err := c.getCertificate(hello); cert != nil || err != nil {
				t.Errorf("got %v, %v, want nil, nil", cert, err)
			}
		})
	}
	clients.Wait()
	if took := time.Since(began); took != storageLookupTimeout {
		t.Errorf("slowest lookup took %v, want %v", took, storageLookupTimeout)
	}
	if got := len(c.lookupSlots); got != maxStorageLookups {
		t.Errorf("got %d concurrent lookups, want %d", got, maxStorageLookups)
	}
	if got := httpStatus(c, "one.example"); got != http.StatusNotFound {
		t.Errorf("with all slots in use: got %d, want 404", got)
	}
}

// A lookup over HTTP times out while storage hangs.
func TestStorageLookupOverHTTPTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &slowChallengeEngine{unblock: make(chan struct{})}
		defer close(e.unblock)
		c := newChallenges([]string{"one.example"}, e, func(string) bool { return true })
		began := time.Now()
		if got := httpStatus(c, "one.example"); got != http.StatusNotFound {
			t.Errorf("got %d, want 404 from the fallback handler", got)
		}
		if took := time.Since(began); took != storageLookupTimeout {
			t.Errorf("took %v, want %v", took, storageLookupTimeout)
		}
	})
}

func httpStatus(c *challenges, host string) int {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "http://"+host+TokenPath+"token", nil)
	c.httpHandler(http.NotFoundHandler()).ServeHTTP(w, r)
	return w.Code
}

// Tokens are looked up only for configured names and only while an order is in progress.
func TestTokensOnlyDuringOrders(t *testing.T) {
	e := &slowChallengeEngine{}
	ordering := false
	c := newChallenges([]string{"one.example"}, e, func(string) bool { return ordering })
	for _, tt := range []struct {
		host     string
		ordering bool
		want     int
	}{
		{"one.example", true, http.StatusOK},
		{"one.example", false, http.StatusNotFound},
		{"one.example", true, http.StatusOK},
		{"ONE.example:80", true, http.StatusOK},
		{"two.example", true, http.StatusNotFound},
	} {
		ordering = tt.ordering
		clear(c.lockCache)
		if got := httpStatus(c, tt.host); got != tt.want {
			t.Errorf("%s, order in progress %v: got %d, want %d", tt.host, tt.ordering, got, tt.want)
		}
	}
	if e.storageLookups != 3 {
		t.Errorf("got %d storage lookups, want 3", e.storageLookups)
	}
}

// A challenge for a name that is not configured causes no storage lookup.
func TestChallengesForOtherNamesSkipStorage(t *testing.T) {
	var lookups []string
	c := newChallenges([]string{"one.example"}, &slowChallengeEngine{}, func(name string) bool { lookups = append(lookups, name); return false })
	for _, name := range []string{"two.example", "1.2.0.192.in-addr.arpa", "", "one.example"} {
		hello := &tls.ClientHelloInfo{ServerName: name, SupportedProtos: []string{ALPNProto}}
		if cert, err := c.getCertificate(hello); cert != nil || err != nil {
			t.Errorf("%q: got %v, %v, want nil, nil", name, cert, err)
		}
	}
	if !slices.Equal(lookups, []string{"one.example"}) {
		t.Errorf("got lock checks for %q, want only one.example", lookups)
	}
}

// Frequent requests cause few lock checks.
func TestLockStateIsCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lockChecks := 0
		c := newChallenges([]string{"one.example"}, &slowChallengeEngine{}, func(string) bool { lockChecks++; return false })
		for range 1000 {
			httpStatus(c, "one.example")
			time.Sleep(time.Millisecond)
		}
		if lockChecks > 11 {
			t.Errorf("got %d lock checks in one second, want at most 11", lockChecks)
		}
	})
}

func TestChallengedName(t *testing.T) {
	for sni, want := range map[string]string{
		"one.example":            "one.example",
		"ONE.example.":           "one.example",
		"1.2.0.192.in-addr.arpa": "192.0.2.1",
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa": "2001:db8::1",
		"x.in-addr.arpa": "",
	} {
		if got := ChallengedName(sni); got != want {
			t.Errorf("ChallengedName(%s) = %q, want %q", sni, got, want)
		}
	}
}
