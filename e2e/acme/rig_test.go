package acme

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inbox/tlsmgr"
	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/autocert"
	"inbox/tlsmgr/acme/certmagic"
)

// rig is a CA, its name server, a state directory, and the ports to which the CA connects
// for validation.
type rig struct {
	t                 *testing.T
	ca                *pebble
	names             *nameserver
	httpPort, tlsPort int
	dir               string
	engine            string // of servers in this process
}

func newRig(t *testing.T, o pebbleOptions) *rig {
	t.Helper()
	r := &rig{t: t, names: newNameserver(t), httpPort: freePort(t), tlsPort: freePort(t), dir: t.TempDir(), engine: "certmagic"}
	r.ca = r.newCA(o)
	return r
}

// newCA returns a CA that connects to the ports of the rig, unless o has others.
func (r *rig) newCA(o pebbleOptions) *pebble {
	r.t.Helper()
	o.httpPort, o.tlsPort = cmp.Or(o.httpPort, r.httpPort), cmp.Or(o.tlsPort, r.tlsPort)
	o.nameserver = r.names.addr
	return newPebble(r.t, o)
}

// with selects the engine.
func (r *rig) with(engine string) *rig {
	r.engine = engine
	return r
}

// lastPort counts the assigned ports. They are below the ephemeral range, so that no
// outgoing connection can occupy a port while a test has it closed.
var lastPort atomic.Int32

func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 20000 + (97*os.Getpid()+int(lastPort.Add(1)))%10000 // distinct from those of a parallel run
		if l, err := net.Listen("tcp", addrOf(port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

func addrOf(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// lastName counts the names. certmagic has one table of challenges per process, so each
// test needs its own names.
var lastName atomic.Int32

func newName() string { return fmt.Sprintf("site%d.example.test", lastName.Add(1)) }

// engines are the ACME engines by name.
var engines = map[string]acme.EngineFactory{"certmagic": certmagic.New, "autocert": autocert.New}

// eachEngine runs a test with both engines, in parallel.
func eachEngine(t *testing.T, test func(t *testing.T, engine string)) {
	t.Parallel()
	for engine := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			test(t, engine)
		})
	}
}

// config returns a configuration that orders certificates for the names from the CA of the
// rig.
func (r *rig) config(names ...string) tlsmgr.Config {
	return tlsmgr.Config{
		Domains:  names,
		StateDir: r.dir,
		ACME: acme.Config{
			Engine: engines[r.engine], Email: "me@example.test", ListenHost: "127.0.0.1", HTTPPort: r.httpPort, TLSPort: r.tlsPort,
			CA: r.ca.option(),
		},
	}
}

// testServer is a server that uses a certificate source as the program does.
type testServer struct {
	t      *testing.T
	rig    *rig
	host   string // listening address
	source *tlsmgr.Manager
	log    *logBuffer
	stop   func()
}

func (r *rig) serve(c tlsmgr.Config) *testServer {
	r.t.Helper()
	s := &testServer{t: r.t, rig: r, log: new(logBuffer), host: "127.0.0.1"}
	s.serve(c)
	return s
}

// serveCertified starts a server and waits for its certificates.
func (r *rig) serveCertified(names ...string) *testServer {
	r.t.Helper()
	s := r.serve(r.config(names...))
	s.waitForCert(waitTimeout, names...)
	return s
}

func (s *testServer) serve(c tlsmgr.Config) {
	s.t.Helper()
	c.Logger = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	source, err := tlsmgr.New(c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.source = source
	s.start(c)
	s.t.Cleanup(func() {
		s.stop()
		if s.t.Failed() {
			s.t.Logf("log:\n%s", s.log)
		}
	})
}

func (s *testServer) addr(port int) string { return net.JoinHostPort(s.host, strconv.Itoa(port)) }

func (s *testServer) start(c tlsmgr.Config) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	secure := &http.Server{Handler: s.source.HSTS(tlsmgr.CheckHost(c.Domains, nil, page)), ErrorLog: discardLogger(), ReadHeaderTimeout: 10 * time.Second}
	plain := &http.Server{Handler: s.source.HTTPHandler(tlsmgr.Redirect(tlsmgr.RedirectConfig{Domains: c.Domains, HTTPSPort: c.ACME.TLSPort, APIPaths: []string{"/inbox"}})), ErrorLog: discardLogger()}
	var background sync.WaitGroup
	encrypted := tls.NewListener(s.listen(c.ACME.TLSPort), s.source.TLSConfig())
	background.Go(func() { secure.Serve(encrypted) })
	if !c.ACME.NoHTTP {
		l := s.listen(c.ACME.HTTPPort)
		background.Go(func() { plain.Serve(l) })
	}
	ctx, cancel := context.WithCancel(context.Background())
	background.Go(func() { s.source.Run(ctx) })
	s.stop = sync.OnceFunc(func() {
		cancel()
		secure.Close()
		plain.Close()
		background.Wait()
	})
}

func discardLogger() *log.Logger { return log.New(io.Discard, "", 0) }

// listen retries while the port is in use: a process that another test forks holds all
// sockets of this process until it executes the new program.
func (s *testServer) listen(port int) (l net.Listener) {
	s.t.Helper()
	eventually(s.t, waitTimeout, "the port is free", func() bool {
		var err error
		l, err = net.Listen("tcp", s.addr(port))
		return err == nil
	})
	return l
}

// servedCert returns the certificate that the server presents for a server name.
func (s *testServer) servedCert(name string) (*x509.Certificate, error) {
	conn, err := tls.Dial("tcp", s.addr(s.rig.tlsPort), &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

// client returns a client that trusts the CA and connects to the server for any host.
func (s *testServer) client() *http.Client {
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		_, port, _ := net.SplitHostPort(addr)
		return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	}
	transport := &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: s.rig.ca.issuerRoots}, DisableKeepAlives: true}
	return &http.Client{
		Transport: transport, Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// get requests the page of a name over verified TLS.
func (s *testServer) get(client *http.Client, name string) error {
	resp, err := client.Get(fmt.Sprintf("https://%s/", net.JoinHostPort(name, fmt.Sprint(s.rig.tlsPort))))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "hello" {
		return fmt.Errorf("got %s %q, %v; want hello", resp.Status, body, err)
	}
	return nil
}

// eventually waits until is returns true. what describes the condition.
func eventually(t *testing.T, timeout time.Duration, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(timeout); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timeout after %v, want: %s", timeout, what)
		}
	}
}

// waitForCert waits until the names are served with certificates of the CA.
func (s *testServer) waitForCert(timeout time.Duration, names ...string) {
	s.t.Helper()
	for _, name := range names {
		eventually(s.t, timeout, name+" is served with a certificate of the CA", func() bool {
			return s.get(s.client(), name) == nil
		})
	}
}

func (s *testServer) state(name string) tlsmgr.NameState {
	s.t.Helper()
	for _, n := range s.source.State() {
		if n.Name == name {
			return n
		}
	}
	s.t.Fatalf("the state does not contain %s", name)
	return tlsmgr.NameState{}
}

// renew makes the certificate of a name due, and waits for another.
func (s *testServer) renew(ca *pebble, name string) {
	s.t.Helper()
	before := s.state(name).Fingerprint
	s.makeDue(ca, name)
	eventually(s.t, waitTimeout, name+" has a renewed certificate", func() bool {
		n := s.state(name)
		return n.Fingerprint != before && n.Source == "acme"
	})
}

// makeDue makes the certificate of a name due now.
func (s *testServer) makeDue(ca *pebble, name string) {
	s.t.Helper()
	leaf, err := s.servedCert(name)
	if err != nil {
		s.t.Fatal(err)
	}
	ca.setRenewalWindow(leaf, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	s.source.Reload()
}

// logBuffer is a log that tests can read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *logBuffer) count(text string) int { return strings.Count(b.String(), text) }

func (b *logBuffer) has(text string) bool { return b.count(text) > 0 }

func statePath(r *rig, parts ...string) string {
	return filepath.Join(append([]string{r.dir, "acme"}, parts...)...)
}
