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

// A stored certificate for another name, or an expired one, does not replace a valid
// certificate.
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
			t.Errorf("stored for %s, expiring in %v: got certificate for %v until %v, want the valid one", name, ends, namesOf(got.Leaf), got.Leaf.NotAfter)
		}
	}
}

// Adding the missing intermediate certificate to the file counts as a change.
func TestAddedIntermediateIsLoaded(t *testing.T) {
	p := newPairFiles(t)
	chain, key := validPair(t, "one.example")
	intermediate, _ := validPair(t, "intermediate")
	p.write(t, chain, key)
	log, _ := newLog()
	f, err := newFiles(Config{CertFile: p.cert, KeyFile: p.key, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, append(bytes.Clone(chain), intermediate...), key)
	f.Reload()
	if n := len(f.current.Load().Certificate); n != 2 {
		t.Errorf("got a chain of %d, want 2", n)
	}
}

// A request target that is not a path does not redirect to another host.
func TestRedirectRejectsOpaqueURL(t *testing.T) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET http:.evil.example/ HTTP/1.1\r\nHost: one.example\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	Redirect([]string{"one.example"}, 443).ServeHTTP(w, r)
	if w.Code != http.StatusBadRequest || w.Header().Get("Location") != "" {
		t.Errorf("got %d, Location %q, want 400", w.Code, w.Header().Get("Location"))
	}
}
