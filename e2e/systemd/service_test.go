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
	// noRateLimits lets visitors of one address connect as fast as they can.
	noRateLimits = "INBOX_RATE=0\nINBOX_CONN_RATE=0\n"
)

// TestService lives through what a server meets in years, on one machine: each
// part begins where the one before it ended.
func TestService(t *testing.T) {
	m := boot(t)
	for _, part := range []struct {
		name string
		run  func(*machine)
	}{
		{"install", install},
		{"upgrade", upgrade},
		{"restarts under load", restartUnderLoad},
		{"crash", crash},
		{"reload", reload},
		{"watchdog", watchdog},
		{"never gives up", restartsWithoutLimit},
		{"credentials", credentials},
		{"other drop-ins", otherDropIns},
		{"port 80 taken", port80Taken},
		{"proxy", proxy},
		{"by itself", bindWithoutSockets},
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
	m.run("sh", "-euc", "cd /root/clone\n"+docCommands(m.t, "for other machines end in `-arm64` and `-armv7`:"))
	if out := m.run("grep", "^INBOX", envFile); out != "INBOX_DOMAIN=example.org\nINBOX_EMAIL=me@example.org\n" {
		m.t.Errorf("the options are %q", out)
	}
	m.write(envFile, "") // no authority can be reached from here
	m.systemctl("restart", "inbox")
	for _, unit := range []string{"inbox.service", "inbox.socket", "inbox-http.socket"} {
		if got := strings.TrimSpace(m.systemctl("is-active", unit)); got != "active" {
			m.t.Errorf("%s is %s", unit, got)
		}
		if got := strings.TrimSpace(m.systemctl("is-enabled", unit)); got != "enabled" {
			m.t.Errorf("%s is %s", unit, got)
		}
	}
	m.wantStatus("200", "https://127.0.0.1/healthz")
	m.wantStatus("200", "https://[::1]/healthz")
	m.wantStatus("421", "http://127.0.0.1/") // no -domain: it leads nowhere
	if got := m.property("StatusText"); !strings.HasPrefix(got, "Serves HTTPS on [::]:443: ") {
		m.t.Errorf("systemctl status says %q", got)
	}
	wantUnprivileged(m, "0000000000000000")
	if got := m.run("stat", "-Lc", "%a", "/var/lib/inbox"); strings.TrimSpace(got) != "700" {
		m.t.Errorf("the state directory has mode %s", got)
	}
	if out := m.run("ls", "/var/lib/inbox/"); !strings.Contains(out, "secret") {
		m.t.Errorf("the state directory holds no secret: %s", out)
	}
	if out := m.run("journalctl", "-u", "inbox", "-p", "warning"); strings.Contains(out, "Operation not permitted") {
		m.t.Errorf("something was forbidden:\n%s", out)
	}
}

// docCommands is the block of docs/install.md that follows a line with this end.
func docCommands(t *testing.T, after string) string {
	t.Helper()
	block, err := e2e.DocBlock("../../docs/install.md", after)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// installDropIn runs the commands that a drop-in begins with.
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
		m.t.Fatalf("%s.conf does not say how it is put in place", name)
	}
	if out, err := m.try("sh", "-euc", "cd /root/clone/systemd/drop-ins\n"+script.String()); err != nil {
		return fmt.Errorf("put %s.conf in place: %w\n%s", name, err, out)
	}
	return nil
}

// upgrade and uninstall follow docs/install.md, too.
func upgrade(m *machine) {
	pid := m.property("MainPID")
	m.run("sh", "-euc", "cd /root/clone\n"+docCommands(m.t, "but for a new version:"))
	if got := m.property("MainPID"); got == pid || got == "0" {
		m.t.Errorf("process %s became %s", pid, got)
	}
	m.wantStatus("200", "https://127.0.0.1/healthz")
}

func uninstall(m *machine) {
	m.systemctl("unmask", "inbox.socket", "inbox-http.socket")
	m.run("sh", "-euc", docCommands(m.t, "`/etc/inbox` and `/var/lib/inbox`:"))
	m.systemctl("daemon-reload")
	if out, err := m.try("systemctl", "cat", "inbox.service"); err == nil && strings.Contains(out, "ExecStart=inbox") {
		m.t.Errorf("the service is still there:\n%s", out)
	}
	if out, err := m.try("ss", "-Hltn"); err != nil || strings.TrimSpace(out) != "" {
		m.t.Errorf("something still listens: %v\n%s", err, out)
	}
	m.run("ls", "/etc/inbox", "/var/lib/private/inbox/secret")
}

// wantUnprivileged looks at the process itself.
func wantUnprivileged(m *machine, capabilities string) {
	m.t.Helper()
	status := m.run("cat", "/proc/"+m.property("MainPID")+"/status")
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t" + capabilities, "CapBnd:\t" + capabilities} {
		if !strings.Contains(status, want+"\n") {
			m.t.Errorf("the process lacks %q:\n%s", want, status)
		}
	}
	if strings.Contains(status, "Uid:\t0\t") {
		m.t.Error("it runs as root")
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
		m.t.Errorf("%d restarts: %+v; want none refused or broken", restarts, v)
	}
}

// crash kills the process: it comes back by itself, and nobody is refused.
func crash(m *machine) {
	before := m.intProperty("NRestarts")
	v := m.measureClients("https://127.0.0.1/healthz", func() {
		m.systemctl("kill", "-s", "KILL", "inbox")
		m.eventually("it runs again", func() bool {
			return m.intProperty("NRestarts") == before+1 && m.property("ActiveState") == "active"
		})
	})
	if v.Refused > 0 || v.Answered == 0 {
		m.t.Errorf("a crash: %+v; want none refused", v)
	}
}

// reload keeps the process, and systemd hears when it is done.
func reload(m *machine) {
	pid := m.property("MainPID")
	m.systemctl("reload", "inbox")
	m.eventually("the log tells of the reload", func() bool {
		return strings.Contains(m.run("journalctl", "-u", "inbox"), "reloading certificates")
	})
	m.eventually("it is active again", func() bool { return m.property("ActiveState") == "active" })
	if got := m.property("MainPID"); got != pid {
		m.t.Errorf("process %s became %s", pid, got)
	}
}

// watchdog leaves an idle server alone, and kills one that hangs.
func watchdog(m *machine) {
	m.write(dropIns+"watchdog.conf", "[Service]\nWatchdogSec=4s\n")
	m.systemctl("daemon-reload")
	m.systemctl("restart", "inbox")
	pid, before := m.property("MainPID"), m.intProperty("NRestarts")
	time.Sleep(9 * time.Second) // twice as long as it is granted, with no visitor
	if got := m.property("MainPID"); got != pid {
		m.t.Fatalf("the idle server was killed\n%s", m.journal())
	}
	m.run("kill", "-STOP", pid)
	m.eventually("it was killed and runs again", func() bool {
		return m.intProperty("NRestarts") == before+1 && m.property("ActiveState") == "active"
	})
	out := m.run("journalctl", "-u", "inbox")
	if !strings.Contains(out, "Watchdog timeout") || !strings.Contains(out, "SIGABRT: abort") {
		m.t.Errorf("the journal holds no time-out with stacks:\n%s", out)
	}
	m.wantStatus("200", "https://127.0.0.1/healthz")
	m.run("rm", dropIns+"watchdog.conf")
	m.systemctl("daemon-reload")
}

// restartsWithoutLimit breaks an option, lets systemd start the server far more often than
// its usual limit (five times in ten seconds) while visitors knock, and mends it.
func restartsWithoutLimit(m *machine) {
	m.write(dropIns+"fast.conf", "[Service]\nRestartSec=50ms\n")
	m.systemctl("daemon-reload")
	m.systemctl("restart", "inbox")
	v := m.measureClients("https://127.0.0.1/healthz", func() {
		m.write(envFile, noRateLimits+"INBOX_POLL_TIMEOUT=soon\n")
		m.try("systemctl", "restart", "inbox") // which fails
		m.eventually("it was started forty times", func() bool { return m.intProperty("NRestarts") > 40 })
		m.write(envFile, noRateLimits)
		m.eventually("it runs again", func() bool { return m.property("ActiveState") == "active" })
		time.Sleep(time.Second)
	})
	if v.Refused > 0 || v.Answered == 0 {
		m.t.Errorf("an option that was wrong for a while: %+v; want none refused", v)
	}
	if out := m.run("journalctl", "-u", "inbox"); !strings.Contains(out, `-poll-timeout "soon" (from INBOX_POLL_TIMEOUT)`) {
		m.t.Errorf("the journal does not say what was wrong:\n%s", m.journal())
	}
	m.run("rm", dropIns+"fast.conf")
	m.systemctl("daemon-reload")
}

// credentials are files that root alone may read; without one nothing starts.
func credentials(m *machine) {
	if err := installDropIn(m, "credentials"); err == nil {
		m.t.Error("it starts without its credentials")
	}
	cert, key := certificate(m.t)
	for name, text := range map[string]string{"server.crt": cert, "server.key": key} {
		m.write("/etc/inbox/"+name, text)
		m.run("chmod", "600", "/etc/inbox/"+name)
	}
	m.eventually("it starts by itself", func() bool { return m.property("ActiveState") == "active" })
	m.write("/etc/inbox/root.crt", cert)
	if out, err := m.try("curl", "-s", "--cacert", "/etc/inbox/root.crt", "--resolve", "inbox.test:443:127.0.0.1", "https://inbox.test/healthz"); err != nil {
		m.t.Errorf("the certificate is not that of the files: %v\n%s\n%s", err, out, m.journal())
	}
	m.run("rm", dropIns+"credentials.conf")
	m.systemctl("daemon-reload")
}

// certificate makes one for inbox.test.
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

// otherDropIns are put in place together, and taken away again.
func otherDropIns(m *machine) {
	if err := installDropIn(m, "eab"); err == nil {
		m.t.Error("it starts without the account's key")
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
		m.t.Errorf("the most memory is %s, want 1 GiB", got)
	}
	m.run("rm", dropIns+"eab.conf", dropIns+"limits.conf", "/etc/systemd/system/inbox.socket.d/address.conf")
	m.systemctl("daemon-reload")
}

// port80Taken starts the server where another program has port 80.
func port80Taken(m *machine) {
	const otherUnit = "/etc/systemd/system/other"
	m.systemctl("stop", "inbox.socket", "inbox-http.socket", "inbox")
	m.write(otherUnit+".socket", "[Socket]\nListenStream=80\n")
	m.write(otherUnit+".service", "[Service]\nExecStart=sleep infinity\n")
	m.systemctl("daemon-reload")
	m.systemctl("start", "other.socket")
	m.systemctl("start", "inbox")
	m.wantStatus("200", "https://127.0.0.1/healthz")
	if out, _ := m.try("systemctl", "is-active", "inbox-http.socket"); strings.TrimSpace(out) != "failed" {
		m.t.Errorf("inbox-http.socket is %s; is the port taken at all?", out)
	}
	m.systemctl("stop", "other.socket", "other.service")
}

// proxy serves plain HTTP on a Unix socket that systemd holds.
func proxy(m *machine) {
	m.write(envFile, "INBOX_HTTPS=false\n")
	if err := installDropIn(m, "proxy"); err != nil {
		m.t.Fatal(err)
	}
	m.wantStatus("200", "--unix-socket", "/run/inbox.sock", "http://inbox/healthz") // which starts the service
	m.systemctl("restart", "inbox")
	m.wantStatus("200", "--unix-socket", "/run/inbox.sock", "http://inbox/healthz")
	m.run("rm", "/etc/systemd/system/inbox.socket.d/proxy.conf")
	m.systemctl("unmask", "inbox-http.socket")
}

// bindWithoutSockets binds the port with its one capability, without sockets.
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
		m.t.Errorf("it stopped with %s\n%s", got, m.journal())
	}
	if _, err := os.Stat(filepath.Join("/proc", m.pid, "root/var/lib/private/inbox/secret")); err != nil {
		m.t.Errorf("the state is gone: %v", err)
	}
}
