package systemd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inbox/e2e"
)

const (
	envFile = "/etc/inbox/inbox.env"
	dropIns = "/etc/systemd/system/inbox.service.d/"
	// noRateLimits allows clients of one address to connect as fast as possible.
	noRateLimits = "INBOX_RATE=0\nINBOX_CONN_RATE=0\n"
)

// TestService runs all parts on one machine. Each part continues from the state that the
// previous one left.
func TestService(t *testing.T) {
	m := boot(t)
	for _, part := range []struct {
		name string
		run  func(*machine)
	}{
		{"install", install},
		{"relay", relay},
		{"upgrade", upgrade},
		{"restarts under load", restartUnderLoad},
		{"crash", crash},
		{"reload", reload},
		{"watchdog", watchdog},
		{"restarts without limit", restartsWithoutLimit},
		{"credentials", credentials},
		{"other drop-ins", otherDropIns},
		{"port 80 taken", port80Taken},
		{"proxy", proxy},
		{"loopback", loopback},
		{"bind without sockets", bindWithoutSockets},
		{"uninstall", uninstall},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.run(&machine{t, m.pid}) }) {
			return
		}
	}
}

// install follows docs/install.md.
func install(m *machine) {
	m.installFile(program, "/root/clone/dist/inbox-linux-amd64", 0o755)
	err := filepath.WalkDir(unitsDir, func(file string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			m.installFile(file, "/root/clone/systemd/"+strings.TrimPrefix(file, unitsDir), 0o644)
		}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.run("sh", "-euc", "cd /root/clone\n"+docCommands(m.t, "`amd64` by `arm64` or `armv7`:"))
	if out := m.run("grep", "^INBOX", envFile); out != "INBOX_DOMAIN=example.org\nINBOX_EMAIL=me@example.org\n" {
		m.t.Errorf("got options %q, want domain and email of docs/install.md", out)
	}
	m.write(envFile, "") // the machine cannot reach a CA
	m.systemctl("restart", "inbox")
	for _, unit := range []string{"inbox.service", "inbox.socket", "inbox-http.socket", "inbox-turn.socket"} {
		if got := strings.TrimSpace(m.systemctl("is-active", unit)); got != "active" {
			m.t.Errorf("%s: got %s, want active", unit, got)
		}
		if got := strings.TrimSpace(m.systemctl("is-enabled", unit)); got != "enabled" {
			m.t.Errorf("%s: got %s, want enabled", unit, got)
		}
	}
	m.wantStatus("200", "https://127.0.0.1/healthz")
	m.wantStatus("200", "https://[::1]/healthz")
	m.wantStatus("421", "http://127.0.0.1/") // no redirect without -domain
	if got := m.property("StatusText"); !strings.HasPrefix(got, "Serving HTTPS on [::]:443: ") {
		m.t.Errorf("got status text %q, want the listening address", got)
	}
	wantUnprivileged(m, "0000000000000000")
	if got := m.run("stat", "-Lc", "%a", "/var/lib/inbox"); strings.TrimSpace(got) != "700" {
		m.t.Errorf("state directory: got mode %s, want 700", got)
	}
	if out := m.run("ls", "/var/lib/inbox/"); !strings.Contains(out, "secret") {
		m.t.Errorf("state directory: got files %s, want secret among them", out)
	}
	if out := m.run("journalctl", "-u", "inbox", "-p", "warning"); strings.Contains(out, "Operation not permitted") {
		m.t.Errorf("got \"Operation not permitted\" in the journal, want none:\n%s", out)
	}
}

// relay checks the socket of the relay: its receive buffer, which exceeds what the server could
// request, and that packets start the service and wait for it.
func relay(m *machine) {
	settings := m.systemctl("show", "-p", "ReceiveBuffer", "-p", "PassPacketInfo", "-p", "FileDescriptorName", "inbox-turn.socket")
	for _, want := range []string{"ReceiveBuffer=4194304", "PassPacketInfo=yes", "FileDescriptorName=turn"} {
		if !strings.Contains(settings, want+"\n") {
			m.t.Errorf("inbox-turn.socket: got\n%s\nwant %s", settings, want)
		}
	}
	if got := m.run("ss", "-Hulnpm", "sport = :3478"); !strings.Contains(got, ",rb8388608,") || !strings.Contains(got, `("inbox",`) {
		m.t.Errorf("got the socket %s, want a buffer of 4 MiB, which the kernel doubles, and the server", got)
	}
	journal := m.run("journalctl", "-u", "inbox")
	if !strings.Contains(journal, `msg=relay over="UDP port 3478"`) || strings.Contains(journal, "the receive buffer of TURN over UDP is small") {
		m.t.Errorf("journal: want a relay with a large buffer, got:\n%s", journal)
	}
	for _, address := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
		m.wantSTUN(address)
	}
	m.systemctl("stop", "inbox")
	m.wantSTUN("127.0.0.1")
	wantDoctorFindsRelay(m)
	wantSocketMetrics(m)
}

// wantDoctorFindsRelay checks that the doctor sees the buffer of the socket, which belongs to
// systemd, and sends packets through the relay.
func wantDoctorFindsRelay(m *machine) {
	m.t.Helper()
	out := strings.Join(strings.Fields(m.run("inbox", "doctor", "-bind", ":443", "-state", "/var/lib/inbox")), " ")
	for _, want := range []string{
		"ok -turn-bind :3478: In use by a running inbox.", "TURN over UDP has a receive buffer of 4096 KiB.",
		"ok TURN over UDP: A packet passed from a relay to another, and back.",
	} {
		if !strings.Contains(out, want) {
			m.t.Errorf("inbox doctor: want %q in %s", want, out)
		}
	}
}

// wantSocketMetrics checks that the hardened server can read the state of its socket.
func wantSocketMetrics(m *machine) {
	m.t.Helper()
	m.write(envFile, "INBOX_METRICS_BIND=127.0.0.1:9091\n")
	m.systemctl("restart", "inbox")
	text := m.run("curl", "-sS", "http://127.0.0.1:9091/metrics")
	for _, want := range []string{"\ninbox_turn_receive_buffer_bytes 4.194304e+06\n", "\ninbox_turn_receive_dropped_packets_total 0\n"} {
		if !strings.Contains(text, want) {
			m.t.Errorf("metrics: want %q in\n%s", want, text)
		}
	}
	m.write(envFile, "")
	m.systemctl("restart", "inbox")
}

// wantSTUN sends a Binding request to the relay from a connected socket, which receives answers
// only from the address that it asked.
func (m *machine) wantSTUN(address string) {
	m.t.Helper()
	const script = `exec 3<>/dev/udp/$1/3478
		printf '\x00\x01\x00\x00\x21\x12\xa4\x42inboxinbox12' >&3
		timeout 20 dd bs=64 count=1 status=none <&3 | head -c 2 | od -An -tx1`
	if got, err := m.try("bash", "-c", script, "bash", address); strings.TrimSpace(got) != "01 01" {
		m.t.Errorf("STUN at %s: got %q, %v, want an answer\n%s", address, got, err, m.journal())
	}
}

// docCommands returns the block of docs/install.md that follows a line ending with after.
func docCommands(t *testing.T, after string) string {
	t.Helper()
	block, err := e2e.DocBlock("../../docs/install.md", after)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// installDropIn runs the installation commands in the leading comment of a drop-in.
func installDropIn(m *machine, name string) error {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join(unitsDir, "drop-ins", name+".conf"))
	if err != nil {
		m.t.Fatal(err)
	}
	var script strings.Builder
	for line := range strings.Lines(string(text)) {
		if command, found := strings.CutPrefix(line, "#   "); found {
			script.WriteString(command)
		}
	}
	if script.Len() == 0 {
		m.t.Fatalf("%s.conf: got no installation commands", name)
	}
	if out, err := m.try("sh", "-euc", "cd /root/clone/systemd/drop-ins\n"+script.String()); err != nil {
		return fmt.Errorf("install %s.conf: %w\n%s", name, err, out)
	}
	return nil
}

// upgrade follows docs/install.md.
func upgrade(m *machine) {
	pid := m.property("MainPID")
	m.run("sh", "-euc", "cd /root/clone\n"+docCommands(m.t, "To upgrade such an installation:"))
	if got := m.property("MainPID"); got == pid || got == "0" {
		m.t.Errorf("got process %s after %s, want a new one", got, pid)
	}
	m.wantStatus("200", "https://127.0.0.1/healthz")
}

// uninstall follows docs/install.md.
func uninstall(m *machine) {
	m.systemctl("unmask", "inbox.socket", "inbox-http.socket", "inbox-turn.socket")
	m.run("sh", "-euc", docCommands(m.t, "`/etc/inbox` and `/var/lib/inbox`:"))
	m.systemctl("daemon-reload")
	if out, err := m.try("systemctl", "cat", "inbox.service"); err == nil && strings.Contains(out, "ExecStart=inbox") {
		m.t.Errorf("got a service after its removal:\n%s", out)
	}
	if out, err := m.try("ss", "-Hlntu"); err != nil || strings.TrimSpace(out) != "" {
		m.t.Errorf("got listening sockets, want none: %v\n%s", err, out)
	}
	m.run("ls", "/etc/inbox", "/var/lib/private/inbox/secret")
}

// wantUnprivileged checks the user, capabilities and filters of the server process.
func wantUnprivileged(m *machine, capabilities string) {
	m.t.Helper()
	status := m.run("cat", "/proc/"+m.property("MainPID")+"/status")
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t" + capabilities, "CapBnd:\t" + capabilities} {
		if !strings.Contains(status, want+"\n") {
			m.t.Errorf("process status: want %q in:\n%s", want, status)
		}
	}
	if strings.Contains(status, "Uid:\t0\t") {
		m.t.Error("got a process of root, want an unprivileged user")
	}
}

func restartUnderLoad(m *machine) {
	m.write(envFile, noRateLimits)
	m.systemctl("restart", "inbox")
	const restarts = 5
	v := m.measureClients("https://127.0.0.1/healthz", func() {
		for range restarts {
			m.systemctl("restart", "inbox")
			time.Sleep(200 * time.Millisecond)
		}
	})
	if v.Refused+v.Failed > 0 || v.Answered < restarts {
		m.t.Errorf("%d restarts: got %+v, want no refused or failed request", restarts, v)
	}
}

// crash kills the process. systemd restarts it, and no connection is refused.
func crash(m *machine) {
	before := m.intProperty("NRestarts")
	v := m.measureClients("https://127.0.0.1/healthz", func() {
		m.systemctl("kill", "-s", "KILL", "inbox")
		m.eventually("the service is active again", func() bool {
			return m.intProperty("NRestarts") == before+1 && m.property("ActiveState") == "active"
		})
	})
	if v.Refused > 0 || v.Answered == 0 {
		m.t.Errorf("got %+v, want no refused request", v)
	}
}

// reload keeps the process and notifies systemd of the beginning and the end.
func reload(m *machine) {
	pid := m.property("MainPID")
	m.systemctl("reload", "inbox")
	m.eventually("the log contains the reload", func() bool {
		return strings.Contains(m.run("journalctl", "-u", "inbox"), "reloading certificates")
	})
	m.eventually("the service is active again", func() bool { return m.property("ActiveState") == "active" })
	if got := m.property("MainPID"); got != pid {
		m.t.Errorf("got process %s, want still %s", got, pid)
	}
}

// watchdog keeps an idle server running and kills one that hangs.
func watchdog(m *machine) {
	m.write(dropIns+"watchdog.conf", "[Service]\nWatchdogSec=4s\n")
	m.systemctl("daemon-reload")
	m.systemctl("restart", "inbox")
	pid, before := m.property("MainPID"), m.intProperty("NRestarts")
	time.Sleep(9 * time.Second) // more than two watchdog intervals without a request
	if got := m.property("MainPID"); got != pid {
		m.t.Fatalf("idle server: got process %s, want still %s\n%s", got, pid, m.journal())
	}
	m.run("kill", "-STOP", pid)
	m.eventually("the server is killed and active again", func() bool {
		return m.intProperty("NRestarts") == before+1 && m.property("ActiveState") == "active"
	})
	out := m.run("journalctl", "-u", "inbox")
	if !strings.Contains(out, "Watchdog timeout") || !strings.Contains(out, "SIGABRT: abort") {
		m.t.Errorf("journal: want a watchdog timeout with stacks, got:\n%s", out)
	}
	m.wantStatus("200", "https://127.0.0.1/healthz")
	m.run("rm", dropIns+"watchdog.conf")
	m.systemctl("daemon-reload")
}

// restartsWithoutLimit sets an invalid option, waits until systemd has restarted the server
// far more often than its default limit (five times in ten seconds), and corrects it.
// Clients connect all the time.
func restartsWithoutLimit(m *machine) {
	m.write(dropIns+"fast.conf", "[Service]\nRestartSec=50ms\n")
	m.systemctl("daemon-reload")
	m.systemctl("restart", "inbox")
	v := m.measureClients("https://127.0.0.1/healthz", func() {
		m.write(envFile, noRateLimits+"INBOX_POLL_TIMEOUT=soon\n")
		m.try("systemctl", "restart", "inbox") // fails
		m.eventually("the server is started forty times", func() bool { return m.intProperty("NRestarts") > 40 })
		m.write(envFile, noRateLimits)
		m.eventually("the service is active again", func() bool { return m.property("ActiveState") == "active" })
		time.Sleep(time.Second)
	})
	if v.Refused > 0 || v.Answered == 0 {
		m.t.Errorf("got %+v, want no refused request", v)
	}
	if out := m.run("journalctl", "-u", "inbox"); !strings.Contains(out, `-poll-timeout "soon" (from INBOX_POLL_TIMEOUT)`) {
		m.t.Errorf("journal: want the invalid option, got:\n%s", m.journal())
	}
	m.run("rm", dropIns+"fast.conf")
	m.systemctl("daemon-reload")
}

// credentials are files that only root can read. Without them the service does not start.
func credentials(m *machine) {
	if err := installDropIn(m, "credentials"); err == nil {
		m.t.Error("got a start without the credentials, want it to fail")
	}
	cert, key := certificate(m.t)
	for name, text := range map[string]string{"server.crt": cert, "server.key": key} {
		m.write("/etc/inbox/"+name, text)
		m.run("chmod", "600", "/etc/inbox/"+name)
	}
	m.eventually("the service starts automatically", func() bool { return m.property("ActiveState") == "active" })
	m.write("/etc/inbox/root.crt", cert)
	if out, err := m.try("curl", "-s", "--cacert", "/etc/inbox/root.crt", "--resolve", "inbox.test:443:127.0.0.1", "https://inbox.test/healthz"); err != nil {
		m.t.Errorf("got another certificate, want the one of the files: %v\n%s\n%s", err, out, m.journal())
	}
	m.run("rm", dropIns+"credentials.conf")
	m.systemctl("daemon-reload")
}

// certificate creates a self-signed certificate for inbox.test and its key, in PEM.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "inbox.test"}, DNSNames: []string{"inbox.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// otherDropIns installs the drop-ins eab, limits and address together, and removes them.
func otherDropIns(m *machine) {
	if err := installDropIn(m, "eab"); err == nil {
		m.t.Error("got a start without the account key, want it to fail")
	}
	m.write("/etc/inbox/eab.key", "c2VjcmV0\n")
	for _, name := range []string{"eab", "limits", "address"} {
		if err := installDropIn(m, name); err != nil {
			m.t.Fatal(err)
		}
	}
	m.wantStatus("200", "https://127.0.0.1:8443/healthz")
	m.wantStatus("000", "https://127.0.0.1:443/healthz")
	if got := m.property("MemoryMax"); got != "1073741824" {
		m.t.Errorf("got MemoryMax %s, want 1 GiB", got)
	}
	m.run("rm", dropIns+"eab.conf", dropIns+"limits.conf", "/etc/systemd/system/inbox.socket.d/address.conf")
	m.systemctl("daemon-reload")
}

// port80Taken starts the server while another program listens on port 80.
func port80Taken(m *machine) {
	const otherUnit = "/etc/systemd/system/other"
	m.systemctl("stop", "inbox.socket", "inbox-http.socket", "inbox-turn.socket", "inbox")
	m.write(otherUnit+".socket", "[Socket]\nListenStream=80\n")
	m.write(otherUnit+".service", "[Service]\nExecStart=sleep infinity\n")
	m.systemctl("daemon-reload")
	m.systemctl("start", "other.socket")
	m.systemctl("start", "inbox")
	m.wantStatus("200", "https://127.0.0.1/healthz")
	if out, _ := m.try("systemctl", "is-active", "inbox-http.socket"); strings.TrimSpace(out) != "failed" {
		m.t.Errorf("inbox-http.socket: got %s, want failed because the port is in use", out)
	}
	m.systemctl("stop", "other.socket", "other.service")
}

// proxy serves plain HTTP on a Unix socket of systemd.
func proxy(m *machine) {
	m.write(envFile, "INBOX_HTTPS=false\n")
	if err := installDropIn(m, "proxy"); err != nil {
		m.t.Fatal(err)
	}
	m.wantStatus("200", "--unix-socket", "/run/inbox.sock", "http://inbox/healthz") // starts the service
	m.systemctl("restart", "inbox")
	m.wantStatus("200", "--unix-socket", "/run/inbox.sock", "http://inbox/healthz")
	m.run("rm", "/etc/systemd/system/inbox.socket.d/proxy.conf")
	m.systemctl("unmask", "inbox-http.socket", "inbox-turn.socket")
}

// loopback gives ports 443 and 80 to a proxy, as docs/recipes.md does.
func loopback(m *machine) {
	const section = "A proxy on the same machine"
	m.write(envFile, recipe(m.t, "nginx", "In `/etc/inbox/inbox.env`:"))
	m.run("sh", "-euc", recipe(m.t, section, "third unit, which holds UDP port 3478 for [calls between any two networks](turn.md):"))
	m.run("sh", "-euc", recipe(m.t, section, "`/etc/inbox/inbox.env`:"))
	m.wantStatus("200", "http://127.0.0.1:3000/healthz")
	for _, port := range []string{"80", "443"} {
		m.wantStatus("000", "http://127.0.0.1:"+port+"/healthz")
	}
	m.wantSTUN("127.0.0.1")
	wantUnprivileged(m, "0000000000000000")
	m.run("systemctl", "unmask", "inbox.socket", "inbox-http.socket")
}

// recipe returns a block of docs/recipes.md.
func recipe(t *testing.T, section, after string) string {
	t.Helper()
	block, err := e2e.DocBlockIn("../../docs/recipes.md", section, after)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// bindWithoutSockets runs the server without socket units. It binds the port itself, with
// its only capability.
func bindWithoutSockets(m *machine) {
	m.write(envFile, "INBOX_BIND=:443\n")
	if err := installDropIn(m, "bind"); err != nil {
		m.t.Fatal(err)
	}
	m.wantStatus("200", "https://127.0.0.1/healthz")
	m.wantStatus("200", "https://[::1]/healthz")
	wantUnprivileged(m, "0000000000000400")
	m.systemctl("stop", "inbox")
	if got := m.property("Result"); got != "success" {
		m.t.Errorf("stop: got result %s, want success\n%s", got, m.journal())
	}
	if _, err := os.Stat(filepath.Join("/proc", m.pid, "root/var/lib/private/inbox/secret")); err != nil {
		m.t.Errorf("got no state after the stop: %v", err)
	}
}
