package tlsmgr

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestWorseStoredCertificateIsIgnored: a copy for another name, or one that has
// ended, is found in the store while a good one serves.
func TestWorseStoredCertificateIsIgnored(t *testing.T) {
	for name, ends := range map[string]time.Duration{"wrong.example": time.Hour, testName: -time.Hour} {
		s := newTestScheduler(t, t.TempDir(), orderSucceeds)
		s.engine.certs[testName] = &stored{s.engine.makeCert(testName, time.Hour), s.settings.cas[0]}
		s.loadCertificate(t.Context(), s.workers[0])
		good, _ := s.certs.pick(testName, time.Now())
		chain, key := makePair(t, name, time.Now().Add(-2*time.Hour), time.Now().Add(ends))
		worse, err := tls.X509KeyPair(chain, key)
		if err != nil {
			t.Fatal(err)
		}
		s.engine.certs[testName] = &stored{&worse, s.settings.cas[0]}
		s.loadCertificate(t.Context(), s.workers[0])
		if got, _ := s.certs.pick(testName, time.Now()); got != good {
			t.Errorf("%s, ending in %v: serves %v until %v now", name, ends, namesOf(got.Leaf), got.Leaf.NotAfter)
		}
	}
}

// TestAddedIntermediateIsLoaded: the file held the certificate alone, and then what belongs
// behind it, too.
func TestAddedIntermediateIsLoaded(t *testing.T) {
	p := newPairFiles(t)
	chain, key := validPair(t, "one.example")
	behind, _ := validPair(t, "intermediate")
	p.write(t, chain, key)
	log, _ := newLog()
	f, err := newFiles(Config{CertFile: p.cert, KeyFile: p.key, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, append(bytes.Clone(chain), behind...), key)
	f.Reload()
	if n := len(f.current.Load().Certificate); n != 2 {
		t.Errorf("got a chain of %d, want 2", n)
	}
}

// TestRedirectStaysAtItsHost: a request line may hold what is no path.
func TestRedirectStaysAtItsHost(t *testing.T) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET http:.evil.example/ HTTP/1.1\r\nHost: one.example\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	Redirect([]string{"one.example"}, 443).ServeHTTP(w, r)
	if w.Code != http.StatusBadRequest || w.Header().Get("Location") != "" {
		t.Errorf("got %d to %q, want 400", w.Code, w.Header().Get("Location"))
	}
}
