package tlsmgr

import (
	"bufio"
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"inbox/tlsmgr/internal/tlstest"
)

// Adding the missing intermediate certificate to the file counts as a change.
func TestAddedIntermediateIsLoaded(t *testing.T) {
	p := newPairFiles(t)
	chain, key := tlstest.ValidPair(t, "one.example")
	intermediate, _ := tlstest.ValidPair(t, "intermediate")
	p.write(t, chain, key)
	log, _ := tlstest.NewLog()
	f, err := newFiles(Config{CertFile: p.cert, KeyFile: p.key, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, append(bytes.Clone(chain), intermediate...), key)
	f.reload()
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
	Redirect(RedirectConfig{Domains: []string{"one.example"}, HTTPSPort: 443}).ServeHTTP(w, r)
	if w.Code != http.StatusBadRequest || w.Header().Get("Location") != "" {
		t.Errorf("got %d, Location %q, want 400", w.Code, w.Header().Get("Location"))
	}
}
