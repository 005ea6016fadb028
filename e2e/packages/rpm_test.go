package packages

import (
	"slices"
	"strings"
	"testing"
)

// One life of an .rpm. No Red Hat system is at hand: rpm itself runs, on a
// database of its own inside of a small Debian.
func TestRpmInstallsUpgradesAndLeaves(t *testing.T) {
	needs(t, "root", "rpm")
	releases, r := built(t), debian(t)
	rpm := func(args ...string) string {
		t.Helper()
		return output(t, "rpm", append([]string{"--root", r.dir, "--dbpath", "/var/lib/rpm", "--nodeps"}, args...)...)
	}

	rpm("--install", releases.here.file(t, "*.rpm"))
	if said := rpm("--verify", "inbox"); said != "" {
		t.Errorf("what was installed is not what was packaged:\n%s", said)
	}
	r.serve()
	r.livesOn(t, func() { rpm("--upgrade", releases.newer.file(t, "*.rpm")) }, func() { rpm("--erase", "inbox") })
}

// livesOn upgrades and removes a package of rpm's that has served, and looks for
// what has to outlive that.
func (r root) livesOn(t *testing.T, upgrade, remove func()) {
	t.Helper()
	old, kept := r.run("inbox", "version"), r.read(secret)
	edited := r.read(options) + "INBOX_DOMAIN=example.org\n"
	r.write(options, edited)
	upgrade()
	if r.run("inbox", "version") == old || r.read(options) != edited || r.read(secret) != kept {
		t.Error("the upgrade changed the options or the state, or not the program")
	}
	remove()
	r.expect("removed", false, "/usr/bin/inbox", "/usr/lib/systemd/system/inbox.service", options)
	if r.read(options+".rpmsave") != edited || r.read(secret) != kept {
		t.Error("the removal lost the options or the state")
	}
}

func TestRpmHoldsWhatTheDebHolds(t *testing.T) {
	needs(t, "rpm", "dpkg-deb")
	r := built(t)
	files := strings.Fields(output(t, "rpm", "-qpl", r.here.file(t, "*.rpm")))
	for _, name := range strings.Fields(output(t, "sh", "-c", `dpkg-deb --fsys-tarfile "$0" | tar t`, r.here.file(t, "*.deb"))) {
		name = strings.TrimPrefix(name, ".")
		debOnly := strings.HasSuffix(name, "/") || strings.Contains(name, "lintian") || strings.HasSuffix(name, "changelog.gz") ||
			name == "/usr/share/inbox/inbox.env"
		if !debOnly && !slices.Contains(files, name) {
			t.Errorf("%s is in the .deb alone", name)
		}
	}
	if !slices.Contains(files, options) {
		t.Errorf("%s is not in the .rpm", options)
	}
}
