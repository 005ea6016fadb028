package packages

import (
	"slices"
	"strings"
	"testing"
)

// Installation, upgrade and removal of the .rpm. Instead of a Red Hat system, rpm runs with
// its own database in a minimal Debian.
func TestRpmLifecycle(t *testing.T) {
	requireTools(t, "root", "rpm")
	releases, r := buildReleases(t), newDebianRoot(t)
	rpm := func(args ...string) string {
		t.Helper()
		return runCommand(t, "rpm", append([]string{"--root", r.dir, "--dbpath", "/var/lib/rpm", "--nodeps"}, args...)...)
	}

	rpm("--install", releases.original.file(t, "*.rpm"))
	if got := rpm("--verify", "inbox"); got != "" {
		t.Errorf("rpm --verify: got differences, want none:\n%s", got)
	}
	r.startServer()
	r.checkUpgradeAndRemoval(t, func() { rpm("--upgrade", releases.newer.file(t, "*.rpm")) }, func() { rpm("--erase", "inbox") })
}

// checkUpgradeAndRemoval upgrades and removes an installed .rpm, and checks that the options
// and the state remain.
func (r debianRoot) checkUpgradeAndRemoval(t *testing.T, upgrade, remove func()) {
	t.Helper()
	old, kept := r.run("inbox", "version"), r.read(secretFile)
	edited := r.read(envFile) + "INBOX_DOMAIN=example.org\n"
	r.write(envFile, edited)
	upgrade()
	if r.run("inbox", "version") == old || r.read(envFile) != edited || r.read(secretFile) != kept {
		t.Error("upgrade: want a new program with the same options and state")
	}
	remove()
	r.wantFiles("removed", false, "/usr/bin/inbox", "/usr/lib/systemd/system/inbox.service", envFile)
	if r.read(envFile+".rpmsave") != edited || r.read(secretFile) != kept {
		t.Error("removal: want the options in inbox.env.rpmsave and the same state")
	}
}

func TestRpmAndDebHaveSameFiles(t *testing.T) {
	requireTools(t, "rpm", "dpkg-deb")
	r := buildReleases(t)
	files := strings.Fields(runCommand(t, "rpm", "-qpl", r.original.file(t, "*.rpm")))
	for _, name := range strings.Fields(runCommand(t, "sh", "-c", `dpkg-deb --fsys-tarfile "$0" | tar t`, r.original.file(t, "*.deb"))) {
		name = strings.TrimPrefix(name, ".")
		debOnly := strings.HasSuffix(name, "/") || strings.Contains(name, "lintian") || strings.HasSuffix(name, "changelog.gz") ||
			name == "/usr/share/inbox/inbox.env"
		if !debOnly && !slices.Contains(files, name) {
			t.Errorf("%s: got it only in the .deb, want it in the .rpm too", name)
		}
	}
	want := []string{envFile, "/usr/lib/systemd/system/inbox.service", "/usr/share/doc/inbox/docs/turn.md"}
	for _, socket := range socketUnits {
		want = append(want, "/usr/lib/systemd/system/"+socket)
	}
	for _, name := range want {
		if !slices.Contains(files, name) {
			t.Errorf("%s: missing in the .rpm", name)
		}
	}
}
