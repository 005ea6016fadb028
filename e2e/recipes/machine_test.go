package recipes

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"inbox/e2e"
)

const (
	site = "chat.example.org"
	// serverAddr is the public address of a machine, and clientNet a network of clients.
	serverAddr, clientNet = "198.51.100.1", "203.0.113."
	// waitTimeout bounds the wait for an event that must happen, also on a busy machine.
	waitTimeout = 60 * time.Second
)

// machine is a host with a network, and with files in /etc, /var and /run, of its own. Its
// clients have addresses in clientNet.
type machine struct {
	t    *testing.T
	name string // in the network
	root string // path of its root directory
	pid  string // of the process that holds its namespaces
}

// holdScript keeps changes of /etc, /var and /run in memory.
const holdScript = `
mount -t tmpfs tmpfs "$1"
for dir in etc var run; do
	mkdir "$1/$dir" "$1/$dir/new" "$1/$dir/work"
	mount -t overlay overlay -o "lowerdir=/$dir,upperdir=$1/$dir/new,workdir=$1/$dir/work" "/$dir"
done
echo nameserver 127.0.0.1 >"$1/resolv.conf"
echo "127.0.0.1 localhost" >"$1/hosts"
cp "$1/resolv.conf" "$1/hosts" /etc
echo ready
exec sleep infinity`

// newMachine starts a machine, which ends with the test. The programs are needed on it.
func newMachine(t *testing.T, name string, programs ...string) *machine {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			skipOrFail(t, "requires "+program+": run scripts/test install")
		}
	}
	m := &machine{t: t, name: name}
	ns := strings.ToUpper(name)
	m.must(network.IP("netns add "+ns, "-n "+ns+" link set lo up",
		"-n "+ns+" addr add "+serverAddr+"/32 dev lo", "-n "+ns+" addr add "+clientNet+"1/24 dev lo"))
	holder := network.Command(name, "unshare", "--mount", "sh", "-euc", holdScript, "sh", t.TempDir())
	var output bytes.Buffer
	holder.Stderr = &output
	stdout, err := holder.StdoutPipe()
	m.must(err)
	m.must(holder.Start())
	t.Cleanup(func() {
		_ = holder.Process.Kill() // fails only if already exited
		_ = holder.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("start machine %s: %v\n%s", name, err, output.String())
	}
	m.pid = fmt.Sprint(holder.Process.Pid)
	m.root = filepath.Join("/proc", m.pid, "root")
	return m
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// write writes a file that every user can read, and its directories.
func (m *machine) write(path, text string) {
	m.t.Helper()
	m.must(os.MkdirAll(filepath.Dir(m.root+path), 0o755))
	m.must(os.WriteFile(m.root+path, []byte(text), 0o644))
}

func (m *machine) mkdir(paths ...string) {
	m.t.Helper()
	for _, path := range paths {
		m.must(os.MkdirAll(m.root+path, 0o755))
	}
}

// command returns a command on the machine.
func (m *machine) command(program string, args ...string) *exec.Cmd {
	path, err := exec.LookPath(program)
	if err != nil {
		path = program
	}
	return exec.Command("nsenter", append([]string{"--target", m.pid, "--mount", "--net", "--wd=/", "--", path}, args...)...)
}

// run runs a command, which must succeed, and returns its output.
func (m *machine) run(program string, args ...string) string {
	m.t.Helper()
	out, err := m.command(program, args...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}

// runDoc runs commands of the documentation.
func (m *machine) runDoc(commands string, env ...string) string {
	m.t.Helper()
	c := m.command("sh", "-euc", commands)
	c.Env = append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%v\n%s\n%s", err, commands, out)
	}
	return string(out)
}

// start starts a program, which is stopped at the end of the test.
func (m *machine) start(program string, args ...string) {
	m.t.Helper()
	var output lockedBuffer
	c := m.command(program, args...)
	c.Env = append(os.Environ(), "HOME=/var/lib/caddy", "XDG_DATA_HOME=/var/lib/caddy", "XDG_CONFIG_HOME=/var/lib/caddy")
	c.Stdout, c.Stderr = &output, &output
	m.must(c.Start())
	m.t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM) // fails only if already exited
		kill := time.AfterFunc(waitTimeout, func() { _ = c.Process.Kill() })
		_ = c.Wait()
		kill.Stop()
		if m.t.Failed() {
			m.t.Logf("output of %s:\n%s", program, output.String())
		}
	})
}

// startInbox starts the server with the options of /etc/inbox/inbox.env, and returns a function
// that stops it.
func (m *machine) startInbox(options string, extra ...string) (stop func()) {
	m.t.Helper()
	m.write("/etc/inbox/inbox.env", options+strings.Join(extra, "\n")+"\n")
	m.mkdir("/var/lib/inbox")
	return m.serveInbox(m.command(program, inboxOptions()...))
}

// inboxOptions are those of the commands in the documentation.
func inboxOptions() []string {
	return []string{"-env-file", "/etc/inbox/inbox.env", "-state", "/var/lib/inbox"}
}

func (m *machine) serveInbox(c *exec.Cmd) (stop func()) {
	m.t.Helper()
	var log lockedBuffer
	s, err := e2e.StartWith(c, func(line string) { fmt.Fprintln(&log, line) })
	if err != nil {
		m.t.Fatalf("%v\n%s", err, log.String())
	}
	stop = sync.OnceFunc(func() {
		if err := s.Stop(); err != nil {
			m.t.Error(err)
		}
	})
	m.t.Cleanup(func() {
		stop()
		if m.t.Failed() {
			m.t.Logf("log of inbox:\n%s", log.String())
		}
	})
	return stop
}

const (
	caURL  = "https://127.0.0.1:14000/dir"
	caRoot = "/etc/inbox/root_ca.crt"
)

// startCA starts Pebble and its name server, for which every name has the address 127.0.0.1. It
// returns the options by which the server uses it.
func (m *machine) startCA() (options []string) {
	m.t.Helper()
	m.startCAFor(m, "127.0.0.1")
	return []string{"INBOX_ACME_CA=" + caURL, "INBOX_ACME_ROOT=" + caRoot}
}

// startCAFor starts the CA at an address, and writes its root certificate on another machine.
func (m *machine) startCAFor(other *machine, addr string) {
	m.t.Helper()
	ca, err := testCA()
	m.must(err)
	other.mkdir("/etc/inbox")
	m.start(ca, "-listen", addr+":14000", "-dns", addr+":53", "-root", other.root+caRoot)
	m.eventually("the CA is ready", func() error {
		_, err := os.Stat(other.root + caRoot)
		return err
	})
}

// eventually waits until check succeeds.
func (m *machine) eventually(what string, check func() error) {
	m.t.Helper()
	var err error
	for deadline := time.Now().Add(waitTimeout); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	m.t.Fatalf("timeout after %v, want: %s: %v", waitTimeout, what, err)
}

// dial connects from an address in clientNet to a port of the machine.
func (m *machine) dial(ctx context.Context, client int, transport, port string) (c net.Conn, err error) {
	from := net.ParseIP(fmt.Sprint(clientNet, client))
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: waitTimeout}
	if strings.HasPrefix(transport, "udp") {
		d.LocalAddr = &net.UDPAddr{IP: from}
	}
	err = network.Do(m.name, func() error {
		c, err = d.DialContext(ctx, transport, net.JoinHostPort(serverAddr, port))
		return err
	})
	return c, err
}

// awaitTLS waits until the site has a certificate of an issuer whose name contains a text.
func (m *machine) awaitTLS(issuer string) {
	m.t.Helper()
	m.eventually("a certificate of "+issuer, func() error {
		cert, err := m.certificateOf(site)
		if err == nil && !strings.Contains(cert.Issuer.String(), issuer) {
			err = fmt.Errorf("got a certificate of %s", cert.Issuer)
		}
		return err
	})
}

// certificateOf returns the certificate for a name on port 443.
func (m *machine) certificateOf(name string) (*x509.Certificate, error) {
	raw, err := m.dial(m.t.Context(), 2, "tcp", "443")
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	c := tls.Client(raw, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	_ = c.SetDeadline(time.Now().Add(waitTimeout)) // never fails on a new connection
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

// client returns a client with an address of its own, for every name.
func (m *machine) client(number int) *http.Client {
	c := &http.Client{Timeout: waitTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	c.Transport = &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return m.dial(ctx, number, "tcp", port)
		},
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true,
	}
	m.t.Cleanup(c.CloseIdleConnections)
	return c
}

// lockedBuffer is a buffer that tests can read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
