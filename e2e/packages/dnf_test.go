package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// aShell is the least that provides what the package asks for: the Debian has
// a shell, but rpm does not know it.
const aShell = `name: shell
arch: amd64
platform: linux
version: 1.0.0
maintainer: nobody <nobody@example.org>
description: what rpm should know of the shell
provides: [/bin/sh]
`

func shellPackage(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/shell.yaml", []byte(aShell), 0o600); err != nil {
		t.Fatal(err)
	}
	output(t, filepath.Join(cache, "inbox-tools", "nfpm"), "package", "-f", dir+"/shell.yaml", "-p", "rpm", "-t", dir+"/shell.rpm")
	return dir + "/shell.rpm"
}

// The same life as with rpm, by the commands of docs/install.md. No repository
// is at hand, so dnf resolves among what it is given.
func TestDnfInstallsUpgradesAndLeaves(t *testing.T) {
	needs(t, "root", "dnf")
	releases, r := built(t), debian(t)
	arguments := []string{"--installroot=" + r.dir, "--disablerepo=*", "--setopt=reposdir=/nonexistent", "-y"}
	dnf := func(args ...string) string {
		t.Helper()
		said := output(t, "dnf", append(arguments, args...)...)
		if strings.Contains(said, "scriptlet failed") {
			t.Errorf("a script failed:\n%s", said)
		}
		return said
	}
	first, shell := releases.here.file(t, "*.rpm"), shellPackage(t)

	// Without one dnf must refuse, or the scripts would run before there is a shell.
	if out, err := exec.Command("dnf", append(arguments, "install", first)...).CombinedOutput(); err == nil || !strings.Contains(string(out), "/bin/sh") {
		t.Errorf("installed without a shell: %v\n%s", err, out)
	}
	said := dnf("install", first, shell)
	if before, after := strings.Index(said, "Installing       : shell"), strings.Index(said, "Installing       : inbox"); before < 0 || after < before {
		t.Errorf("the shell does not come first:\n%s", said)
	}
	old := r.run("inbox", "version")
	r.serve()
	kept := r.read(secret)

	edited := r.read(options) + "INBOX_DOMAIN=example.org\n"
	r.write(options, edited)
	dnf("upgrade", releases.newer.file(t, "*.rpm"))
	if r.run("inbox", "version") == old || r.read(options) != edited || r.read(secret) != kept {
		t.Error("the upgrade changed the options or the state, or not the program")
	}

	dnf("remove", "inbox")
	r.expect("removed", false, "/usr/bin/inbox", "/usr/lib/systemd/system/inbox.service", options)
	if r.read(options+".rpmsave") != edited || r.read(secret) != kept {
		t.Error("the removal lost the options or the state")
	}
}
