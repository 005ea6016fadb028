package packages

import (
	"strings"
	"testing"
)

const (
	envFile    = "/etc/inbox/inbox.env"
	secretFile = "/var/lib/inbox/secret"
)

// Installation, upgrade, removal and purge of the .deb keep the state. All but the purge
// keep the options that the operator changed.
func TestDebLifecycle(t *testing.T) {
	releases, r := buildReleases(t), newDebianRoot(t)
	first, second := releases.original.file(t, "*.deb"), releases.newer.file(t, "*.deb")

	wantContains(t, r.apt("install", first), "to configure and start the service, run: inbox setup")
	if r.enabled() {
		t.Error("got an enabled service without a domain, want it disabled")
	}
	if got, want := r.read(envFile), r.read("/usr/share/inbox/inbox.env"); got != want {
		t.Error("got options that differ from /usr/share/inbox/inbox.env, want a copy")
	}
	old := r.run("inbox", "version")
	running := r.startServer()
	kept := r.read(secretFile)

	edited := r.read(envFile) + "INBOX_DOMAIN=example.org\n"
	r.write(envFile, edited)
	r.run("systemctl", "enable", "inbox.service")
	r.apt("install", second)
	checkFrontPage(t, running)             // the old process serves until it is restarted
	if err := running.Stop(); err != nil { // otherwise the new process waits for the lock of the state
		t.Error(err)
	}
	if r.run("inbox", "version") == old || r.read(envFile) != edited || r.read(secretFile) != kept || !r.enabled() {
		t.Error("upgrade: want a new program with the same options, state and enabled units")
	}
	r.startServer()

	r.apt("remove", "inbox")
	r.wantFiles("removed", false, "/usr/bin/inbox", "/usr/lib/systemd/system/inbox.service", "/usr/share/inbox")
	r.apt("install", second)
	if r.read(envFile) != edited || r.read(secretFile) != kept || !r.enabled() {
		t.Error("removal and installation: want the same options, state and enabled units")
	}

	r.write(envFile+".20260102-030405.000.bak", "INBOX_RATE=7\n") // of inbox setup
	wantContains(t, r.apt("purge", "inbox"), "certificates stay in /var/lib/inbox")
	r.wantFiles("purged", false, "/usr/bin/inbox", "/etc/inbox")
	r.wantFiles("purged", true, secretFile)
	if r.enabled() || r.read(secretFile) != kept {
		t.Error("purge: want disabled units and the same state")
	}
	if left := strings.TrimSpace(r.run("sh", "-c", "find /etc /var/lib/systemd -name '*inbox*'")); left != "" {
		t.Errorf("purge: got remaining files, want none:\n%s", left)
	}
}

// If an image or a provisioning tool has written the options, the installation enables the
// service.
func TestDebEnablesWhenConfigured(t *testing.T) {
	releases, r := buildReleases(t), newDebianRoot(t)
	options := "INBOX_DOMAIN=example.org\nINBOX_EMAIL=me@example.org\n"
	r.write(envFile, options)
	r.write("/etc/inbox/server.key", "key of the operator")
	r.apt("install", releases.original.file(t, "*.deb"))
	if !r.enabled() || r.read(envFile) != options {
		t.Errorf("got enabled %v and options\n%swant true and\n%s", r.enabled(), r.read(envFile), options)
	}
	r.run("systemctl", "disable", "inbox.service")
	r.apt("install", releases.newer.file(t, "*.deb"))
	if r.enabled() {
		t.Error("upgrade: got an enabled service, want it disabled as before")
	}
	r.apt("purge", "inbox")
	r.wantFiles("purged", true, "/etc/inbox/server.key")
	r.wantFiles("purged", false, envFile)
}

// The units of the package are valid, and the manual page is that of the program.
func TestDebUnitsAndManual(t *testing.T) {
	releases, r := buildReleases(t), newDebianRoot(t)
	r.apt("install", releases.original.file(t, "*.deb"))
	if got := r.run("systemd-analyze", "verify", "--man=no", "inbox.service", "inbox.socket", "inbox-http.socket", "inbox-turn.socket"); got != "" {
		t.Error(got)
	}
	page, want := r.run("zcat", "/usr/share/man/man1/inbox.1.gz"), r.run("inbox", "help", "man")
	title, rest, _ := strings.Cut(page, "\n")
	if _, wantRest, _ := strings.Cut(want, "\n"); rest != wantRest || !strings.HasPrefix(title, `.TH INBOX 1 "20`) {
		t.Errorf("the manual page is not that of the program: it begins with %s", title)
	}
}
