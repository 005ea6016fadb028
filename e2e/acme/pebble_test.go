package acme

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"

	"inbox/tlsmgr/acme"
)

// Modes of a CA. Any other number is the status of every response.
const (
	modeUp   = 0
	modeHang = -1
)

// pebble is a test CA in this process. It keeps its accounts and orders when it is closed.
type pebble struct {
	t              *testing.T
	addr           string
	serverRootFile string // root certificate of its HTTPS server
	issuerRoots    *x509.CertPool

	handler, management http.Handler
	serverCert          tls.Certificate
	mode                atomic.Int64
	retryAfterSeconds   atomic.Int64                  // sent while the mode is a status
	failEvery           atomic.Int64                  // every n-th POST fails with 500; 0: none
	emptyChains         atomic.Bool                   // return certificate chains without a certificate
	finalizeGate        atomic.Pointer[chan struct{}] // blocks finalize requests until it is closed
	alteration          atomic.Pointer[alteration]    // answers instead of the CA
	done                chan struct{}

	mu     sync.Mutex
	counts map[string]int
	server *http.Server
}

// pebbleOptions configures a CA. The default certificate lifetime is one hour.
type pebbleOptions struct {
	validity time.Duration
	profiles map[string]time.Duration // lifetimes by name, instead of validity
	eab      map[string]string        // keys by ID; required if not empty, unless eabOptional

	eabOptional       bool
	badNonces         string // percentage of rejected nonces
	httpPort, tlsPort int
	nameserver        string
}

// buildMu guards the environment variables, which Pebble reads when it is created.
var buildMu sync.Mutex

func newPebble(t *testing.T, o pebbleOptions) *pebble {
	t.Helper()
	p := &pebble{t: t, counts: map[string]int{}, done: make(chan struct{})}
	p.build(o)
	p.makeServerCert()
	p.loadIssuerRoots()
	p.listen()
	t.Cleanup(func() { close(p.done); p.close() })
	return p
}

func (p *pebble) build(o pebbleOptions) {
	buildMu.Lock()
	defer buildMu.Unlock()
	if o.badNonces == "" {
		o.badNonces = "0"
	}
	for name, value := range map[string]string{
		"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_WFE_NONCEREJECT": o.badNonces,
	} {
		os.Setenv(name, value)
	}
	discard := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	for id, key := range o.eab {
		if err := store.AddExternalAccountKeyByID(id, key); err != nil {
			p.t.Fatal(err)
		}
	}
	issuer := ca.New(discard, store, "", "ecdsa", 0, 1, o.profileTable())
	validator := va.New(discard, o.httpPort, o.tlsPort, false, o.nameserver, store)
	frontend := wfe.New(discard, store, validator, issuer, []string{"ca.test"}, false, len(o.eab) > 0 && !o.eabOptional, 0, 0)
	p.handler, p.management = frontend.Handler(), frontend.ManagementHandler()
}

// profileTable returns one profile at least. Without any, Pebble chooses one at random.
func (o pebbleOptions) profileTable() map[string]ca.Profile {
	if o.validity == 0 {
		o.validity = time.Hour
	}
	if o.profiles == nil {
		o.profiles = map[string]time.Duration{"default": o.validity}
	}
	table := map[string]ca.Profile{}
	for name, validity := range o.profiles {
		table[name] = ca.Profile{Description: name, ValidityPeriod: uint64(validity / time.Second)}
	}
	return table
}

// makeServerCert creates the certificate of the CA's HTTPS server, and its root file.
func (p *pebble) makeServerCert() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		p.t.Fatal(err)
	}
	p.serverCert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	p.serverRootFile = filepath.Join(p.t.TempDir(), "roots.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(p.serverRootFile, text, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// loadIssuerRoots loads the root of the issued certificates.
func (p *pebble) loadIssuerRoots() {
	recorder := httptest.NewRecorder()
	p.management.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/roots/0", nil))
	p.issuerRoots = x509.NewCertPool()
	if !p.issuerRoots.AppendCertsFromPEM(recorder.Body.Bytes()) {
		p.t.Fatalf("load the root certificate of the CA: got %s", recorder.Body)
	}
}

// listen starts the HTTPS server, on the same port each time.
func (p *pebble) listen() {
	if p.addr == "" {
		p.addr = addrOf(freePort(p.t))
	}
	var l net.Listener
	eventually(p.t, waitTimeout, "the port of the CA is free", func() (free bool) {
		var err error
		l, err = net.Listen("tcp", p.addr)
		return err == nil
	})
	server := &http.Server{Handler: p, ErrorLog: log.New(io.Discard, "", 0)}
	p.mu.Lock()
	p.server = server
	p.mu.Unlock()
	go server.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{p.serverCert}, NextProtos: []string{"h2", "http/1.1"}}))
}

// close stops listening and closes all connections.
func (p *pebble) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.server.Close()
}

func (p *pebble) url() string { return "https://" + p.addr + wfe.DirectoryPath }

// option returns the CA as a server is configured with it.
func (p *pebble) option() acme.CA { return acme.CA{URL: p.url(), RootsFile: p.serverRootFile} }

// blockFinalize blocks finalize requests until unblock is called.
func (p *pebble) blockFinalize() (unblock func()) {
	gate := make(chan struct{})
	p.finalizeGate.Store(&gate)
	return func() { close(gate) }
}

// waitFinalize waits while finalize requests are blocked.
func (p *pebble) waitFinalize(r *http.Request) {
	if gate := p.finalizeGate.Load(); gate != nil && strings.HasPrefix(r.URL.Path, "/finalize-order/") {
		select {
		case <-*gate:
		case <-p.done:
		}
	}
}

func (p *pebble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := p.count(r)
	p.waitFinalize(r)
	if alter := p.alteration.Load(); alter != nil && (*alter)(w, r) {
		return
	}
	switch mode := p.mode.Load(); {
	case mode == modeHang:
		select {
		case <-r.Context().Done():
		case <-p.done:
		}
	case mode != modeUp:
		w.Header().Set("Retry-After", strconv.FormatInt(p.retryAfterSeconds.Load(), 10))
		http.Error(w, "not now", int(mode))
	case r.Method == http.MethodPost && p.failEvery.Load() > 0 && n%int(p.failEvery.Load()) == 0:
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, `{"type":"urn:ietf:params:acme:error:serverInternal","detail":"a hiccup","status":500}`)
	case p.emptyChains.Load() && strings.HasPrefix(r.URL.Path, "/certZ/"):
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		w.Header().Set("Replay-Nonce", "unused")
	default:
		p.handler.ServeHTTP(w, p.countReplacements(r))
	}
}

// countReplacements counts the orders with a replaces field.
func (p *pebble) countReplacements(r *http.Request) *http.Request {
	if r.URL.Path != "/order-plz" {
		return r
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Errorf("read order: %v", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var signed struct{ Payload string }
	if err := json.Unmarshal(body, &signed); err != nil {
		p.t.Errorf("read order: %v", err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(signed.Payload)
	if err != nil {
		p.t.Errorf("read order: %v", err)
	}
	if bytes.Contains(payload, []byte(`"replaces"`)) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.counts["replaces"]++
	}
	return r
}

// count counts the request by the first element of its path, and returns the number of
// POSTs.
func (p *pebble) count(r *http.Request) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	p.counts[first]++
	if r.Method == http.MethodPost {
		p.counts["POST"]++
	}
	return p.counts["POST"]
}

func (p *pebble) requestCount(first string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[first]
}

// orders and validations return the number of requests of each kind.
func (p *pebble) orders() int      { return p.requestCount("order-plz") }
func (p *pebble) validations() int { return p.requestCount("chalZ") }

// setRenewalWindow sets the ARI window of a certificate.
func (p *pebble) setRenewalWindow(leaf *x509.Certificate, from, to time.Time) {
	p.t.Helper()
	window, err := json.Marshal(map[string]any{"suggestedWindow": map[string]time.Time{"start": from, "end": to}})
	if err != nil {
		p.t.Fatal(err)
	}
	body, err := json.Marshal(map[string]string{
		"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})),
		"ariResponse": string(window),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "/set-renewal-info/", bytes.NewReader(body))
	r.Header.Set("User-Agent", "test") // required by Pebble
	recorder := httptest.NewRecorder()
	p.management.ServeHTTP(recorder, r)
	if recorder.Code != http.StatusOK {
		p.t.Fatalf("set the renewal window: got %d %s", recorder.Code, recorder.Body)
	}
}
