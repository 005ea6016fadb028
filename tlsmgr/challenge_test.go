package tlsmgr

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
)

// slowChallengeEngine is an engine that only answers challenges, as slow as a disk that hangs.
type slowChallengeEngine struct {
	fakeEngine
	unblock        chan struct{}
	storageLookups int
}

func (e *slowChallengeEngine) answerTLS(_ *tls.ClientHelloInfo, deep bool) (*tls.Certificate, error) {
	if deep {
		<-e.unblock
	}
	return nil, errors.New("none")
}

func (e *slowChallengeEngine) answerHTTP(_ *http.Request, deep bool) []byte {
	if !deep {
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
	hello := &tls.ClientHelloInfo{ServerName: "one.example", SupportedProtos: []string{acmeALPNProto}}
	var clients sync.WaitGroup
	began := time.Now()
	for range maxStorageLookups + 10 {
		clients.Go(func() {
			if cert, err := c.getCertificate(hello); cert != nil || err != nil {
				t.Errorf("answered %v, %v; want nothing", cert, err)
			}
		})
	}
	clients.Wait()
	if took := time.Since(began); took != storageLookupTimeout {
		t.Errorf("the slowest waited %v, want %v", took, storageLookupTimeout)
	}
	if got := len(c.lookupSlots); got != maxStorageLookups {
		t.Errorf("%d looks at once, want %d", got, maxStorageLookups)
	}
	if got := httpStatus(c, "one.example"); got != http.StatusNotFound {
		t.Errorf("with all places taken: got %d, want 404", got)
	}
}

// A disk that hangs is not waited for on port 80 either.
func TestStorageLookupOverHTTPTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &slowChallengeEngine{unblock: make(chan struct{})}
		defer close(e.unblock)
		c := newChallenges([]string{"one.example"}, e, func(string) bool { return true })
		began := time.Now()
		if got := httpStatus(c, "one.example"); got != http.StatusNotFound {
			t.Errorf("got %d, want what comes behind", got)
		}
		if took := time.Since(began); took != storageLookupTimeout {
			t.Errorf("took %v, want %v", took, storageLookupTimeout)
		}
	})
}

func httpStatus(c *challenges, host string) int {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "http://"+host+tokenPath+"token", nil)
	c.httpHandler(http.NotFoundHandler()).ServeHTTP(w, r)
	return w.Code
}

// Tokens are looked up for our names alone, and only while an order runs.
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
			t.Errorf("%s, ordering %v: got %d, want %d", tt.host, tt.ordering, got, tt.want)
		}
	}
	if e.storageLookups != 3 {
		t.Errorf("the store was asked %d times, want 3", e.storageLookups)
	}
}

// A challenge for a name that is not ours costs no look at the disk.
func TestChallengesForOtherNamesSkipStorage(t *testing.T) {
	var lookups []string
	c := newChallenges([]string{"one.example"}, &slowChallengeEngine{}, func(name string) bool { lookups = append(lookups, name); return false })
	for _, name := range []string{"two.example", "1.2.0.192.in-addr.arpa", "", "one.example"} {
		hello := &tls.ClientHelloInfo{ServerName: name, SupportedProtos: []string{acmeALPNProto}}
		if cert, err := c.getCertificate(hello); cert != nil || err != nil {
			t.Errorf("%q: answered %v, %v; want nothing", name, cert, err)
		}
	}
	if !slices.Equal(lookups, []string{"one.example"}) {
		t.Errorf("looked for orders of %q, want that of our own name alone", lookups)
	}
}

// A stranger who asks without pause hardly touches the lock.
func TestLockStateIsCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lockChecks := 0
		c := newChallenges([]string{"one.example"}, &slowChallengeEngine{}, func(string) bool { lockChecks++; return false })
		for range 1000 {
			httpStatus(c, "one.example")
			time.Sleep(time.Millisecond)
		}
		if lockChecks > 11 {
			t.Errorf("touched %d times in a second, want ten", lockChecks)
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
		if got := challengedName(sni); got != want {
			t.Errorf("challengedName(%s) = %q, want %q", sni, got, want)
		}
	}
}

// blockedStorage is a disk that answers nobody until it is let.
type blockedStorage struct {
	certmagic.Storage
	unblock chan struct{}
}

func (h blockedStorage) Load(ctx context.Context, key string) ([]byte, error) {
	<-h.unblock
	return h.Storage.Load(ctx, key)
}

// While autocert orders, its own challenges are answered from memory; what else
// strangers ask for waits for the disk no longer than anybody, and is left to
// what comes behind, which counts it.
func TestAutocertServesChallengesDuringOrder(t *testing.T) {
	log, _ := newLog()
	chain, key := validPair(t, "one.example")
	bundle := string(chain) + string(key)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		buffered := newBufferedStorage(certmagicStorage(dirStorage{dir, log}), log)
		ca := &caClient{storageKey: "ca"}
		e := newAutocertEngine(&settings{cas: []*caClient{ca}, Config: Config{Logger: log}}, buffered, dirStorage{dir, log})
		cache := &orderCache{engine: e, order: order{name: "one.example", ca: ca}}
		for key, text := range map[string]string{"one.example" + tlsALPN01Suffix: bundle, "mine" + http01Suffix: "mine.thumb"} {
			if err := cache.Put(t.Context(), key, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		e.startOrder("one.example", cache)
		slow := blockedStorage{buffered.Storage, make(chan struct{})}
		defer close(slow.unblock)
		buffered.Storage = slow
		c := newChallenges([]string{"one.example", "two.example"}, e, func(string) bool { return true })
		for _, tt := range []struct {
			host, token string
			want        int
			took        time.Duration
		}{
			{"one.example", "mine", http.StatusOK, 0},
			{"one.example", "other", http.StatusTeapot, storageLookupTimeout},
			{"one.example", "..%2Fmine", http.StatusTeapot, 0},
			{"one.example", "", http.StatusTeapot, 0},
			{"two.example", "other", http.StatusTeapot, storageLookupTimeout},
		} {
			began := time.Now()
			w := httptest.NewRecorder()
			c.httpHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })).
				ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://"+tt.host+tokenPath+tt.token, nil))
			if took := time.Since(began); w.Code != tt.want || took != tt.took {
				t.Errorf("%s at %s: got %d after %v, want %d after %v", tt.token, tt.host, w.Code, took, tt.want, tt.took)
			}
		}
		for name, took := range map[string]time.Duration{"one.example": 0, "two.example": storageLookupTimeout} {
			began := time.Now()
			cert, err := c.getCertificate(&tls.ClientHelloInfo{ServerName: name, SupportedProtos: []string{acmeALPNProto}})
			if (cert != nil) != (took == 0) || err != nil || time.Since(began) != took {
				t.Errorf("hello for %s: got %v, %v after %v, want it after %v", name, cert, err, time.Since(began), took)
			}
		}
	})
}
