package packages

import (
	"strings"
	"testing"
)

const (
	options = "/etc/inbox/inbox.env"
	secret  = "/var/lib/inbox/secret"
)

// One life of a .deb. Nothing of what an operator changed, and nothing of the
// state, is lost on the way, not even by a purge.
func TestDebInstallsUpgradesAndLeaves(t *testing.T) {
	releases, r := built(t), debian(t)
	first, second := releases.here.file(t, "*.deb"), releases.newer.file(t, "*.deb")

	says(t, r.apt("install", first), "set your domain and e-mail address in "+options+", then run: systemctl enable --now inbox")
	if r.enabled() {
		t.Error("a server without a name is enabled")
	}
	if got, want := r.read(options), r.read("/usr/share/inbox/inbox.env"); got != want {
		t.Error("the options are no copy of the commented ones")
	}
	old := r.run("inbox", "version")
	running := r.serve()
	kept := r.read(secret)

	edited := r.read(options) + "INBOX_DOMAIN=example.org\n"
	r.write(options, edited)
	r.run("systemctl", "enable", "inbox.service")
	r.apt("install", second)
	ask(t, running)                        // the old program serves until it is restarted
	if err := running.Stop(); err != nil { // else the new one waits for the state
		t.Error(err)
	}
	if r.run("inbox", "version") == old || r.read(options) != edited || r.read(secret) != kept || !r.enabled() {
		t.Error("the upgrade changed the options, the state or the units, or not the program")
	}
	r.serve()

	r.apt("remove", "inbox")
	r.expect("removed", false, "/usr/bin/inbox", "/usr/lib/systemd/system/inbox.service", "/usr/share/inbox")
	r.apt("install", second)
	if r.read(options) != edited || r.read(secret) != kept || !r.enabled() {
		t.Error("a removal and another installation changed the options, the state or the units")
	}

	says(t, r.apt("purge", "inbox"), "certificates stay in /var/lib/inbox")
	r.expect("purged", false, "/usr/bin/inbox", "/etc/inbox")
	r.expect("purged", true, secret)
	if r.enabled() || r.read(secret) != kept {
		t.Error("the purge left the units enabled, or changed the state")
	}
	if left := strings.TrimSpace(r.run("sh", "-c", "find /etc /var/lib/systemd -name '*inbox*'")); left != "" {
		t.Errorf("the purge left:\n%s", left)
	}
}

// An image or a provisioning tool may write the options first.
func TestDebEnablesWhatIsNamedBefore(t *testing.T) {
	releases, r := built(t), debian(t)
	named := "INBOX_DOMAIN=example.org\nINBOX_EMAIL=me@example.org\n"
	r.write(options, named)
	r.write("/etc/inbox/server.key", "of the operator's own")
	r.apt("install", releases.here.file(t, "*.deb"))
	if !r.enabled() || r.read(options) != named {
		t.Errorf("enabled: %v, options:\n%s", r.enabled(), r.read(options))
	}
	r.run("systemctl", "disable", "inbox.service")
	r.apt("install", releases.newer.file(t, "*.deb"))
	if r.enabled() {
		t.Error("the upgrade enabled what the operator had disabled")
	}
	r.apt("purge", "inbox")
	r.expect("purged", true, "/etc/inbox/server.key")
	r.expect("purged", false, options)
}

// The units find what they name where the package has put it, and the manual
// page names every option of the program beside it.
func TestDebUnitsAndManual(t *testing.T) {
	releases, r := built(t), debian(t)
	r.apt("install", releases.here.file(t, "*.deb"))
	if said := r.run("systemd-analyze", "verify", "--man=no", "inbox.service", "inbox.socket", "inbox-http.socket"); said != "" {
		t.Error(said)
	}
	page, options := r.run("zcat", "/usr/share/man/man1/inbox.1.gz"), 0
	for line := range strings.Lines(r.run("inbox", "-h")) {
		if strings.HasPrefix(line, "  -") {
			options++
			if !strings.Contains(page, "\n"+strings.ReplaceAll(line, "-", `\-`)) {
				t.Errorf("the manual page does not have %s", line)
			}
		}
	}
	if options == 0 {
		t.Error("no options in inbox -h")
	}
}
