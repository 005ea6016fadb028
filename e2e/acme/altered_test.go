package acme

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// alteration is a handler in front of the CA. It responds to a request, or returns false to
// pass it to the CA. It can also pass the request on and change the response.
type alteration func(w http.ResponseWriter, r *http.Request) bool

// alter installs an alteration; nil removes it.
func (p *pebble) alter(a alteration) {
	if a == nil {
		p.alteration.Store(nil)
		return
	}
	p.alteration.Store(&a)
}

// Paths of Pebble.
const (
	newOrderPath  = "/order-plz"
	orderPath     = "/my-order/"
	finalizePath  = "/finalize-order/"
	certPath      = "/certZ/"
	newAcctPath   = "/sign-me-up"
	acctPath      = "/my-account/"
	noncePath     = "/nonce-plz"
	problemPrefix = "urn:ietf:params:acme:error:"
)

// refuse responds with a problem document and a nonce.
func (p *pebble) refuse(w http.ResponseWriter, status int, kind, detail string) {
	nonce := httptest.NewRecorder()
	p.handler.ServeHTTP(nonce, httptest.NewRequest(http.MethodHead, noncePath, nil))
	w.Header().Set("Replay-Nonce", nonce.Header().Get("Replay-Nonce"))
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":%q,"detail":%q,"status":%d}`, problemPrefix+kind, detail, status)
}

// payload returns the signed content of a request, which stays readable.
func payload(r *http.Request) string { return signedPart(r, "payload") }

func signedPart(r *http.Request, part string) string {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var signed map[string]string
	json.Unmarshal(body, &signed)
	text, _ := base64.RawURLEncoding.DecodeString(signed[part])
	return string(text)
}

// isReplacement reports whether a request is an order that replaces a certificate.
func isReplacement(r *http.Request) bool {
	return r.URL.Path == newOrderPath && strings.Contains(payload(r), `"replaces"`)
}

// passOn passes a request to the CA and returns the response.
func (p *pebble) passOn(r *http.Request) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	p.handler.ServeHTTP(recorder, r)
	return recorder
}

// send sends a recorded response after change has changed its body.
func send(w http.ResponseWriter, recorded *httptest.ResponseRecorder, change func(map[string]any)) {
	body := recorded.Body.Bytes()
	var object map[string]any
	if json.Unmarshal(body, &object) == nil && change != nil {
		change(object)
		body, _ = json.Marshal(object)
	}
	for name, values := range recorded.Header() {
		if name != "Content-Length" {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(recorded.Code)
	w.Write(body)
}

// forget makes the CA lose an account, as after a reset. The key of the account can
// be looked up again once another account is registered.
func (p *pebble) forget(accountURL string) {
	var registered atomic.Bool
	p.alter(func(w http.ResponseWriter, r *http.Request) bool {
		isLookup := strings.Contains(payload(r), `"onlyReturnExisting":true`)
		switch {
		case r.URL.Path == newAcctPath && !isLookup:
			recorded := p.passOn(r)
			registered.Store(registered.Load() || recorded.Code == http.StatusCreated)
			send(w, recorded, nil)
		case r.URL.Path == newAcctPath && !registered.Load(), strings.Contains(signedPart(r, "protected"), `"`+accountURL+`"`):
			p.refuse(w, 400, "accountDoesNotExist", "no such account")
		default:
			return false
		}
		return true
	})
}

// caHTTPClient returns a client that trusts the server of the CA.
func (r *rig) caHTTPClient() *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(readFile(r.t, r.ca.serverRootFile)))
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// readKey reads the only key file that matches a pattern.
func readKey(t *testing.T, pattern string) crypto.Signer {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) != 1 {
		t.Fatalf("%s: got %v, %v; want one file", pattern, files, err)
	}
	block, _ := pem.Decode([]byte(readFile(t, files[0])))
	if block == nil {
		t.Fatalf("%s is not PEM", files[0])
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func removeAll(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// shiftSchedule moves all times of the stored schedule of a name, as if time had
// passed.
func shiftSchedule(t *testing.T, r *rig, name string, by time.Duration) {
	t.Helper()
	path := statePath(r, "schedule", name+".json")
	var state map[string]any
	if err := json.Unmarshal([]byte(readFile(t, path)), &state); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(shifted(state, by))
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func shifted(value any, by time.Duration) any {
	switch v := value.(type) {
	case string:
		if at, err := time.Parse(time.RFC3339Nano, v); err == nil && !at.IsZero() {
			return at.Add(by)
		}
	case []any:
		for i := range v {
			v[i] = shifted(v[i], by)
		}
	case map[string]any:
		for k := range v {
			v[k] = shifted(v[k], by)
		}
	}
	return value
}
