package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// shellPackageConfig is the least that provides what the package asks for: the Debian has
// a shell, but rpm does not know it.
const shellPackageConfig = `name: shell
arch: amd64
platform: linux
version: 1.0.0
maintainer: nobody <nobody@example.org>
description: what rpm should know of the shell
provides: [/bin/sh]
`

func buildShellPackage(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/shell.yaml", []byte(shellPackageConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	runCommand(t, filepath.Join(cache, "inbox-tools", "nfpm"), "package", "-f", dir+"/shell.yaml", "-p", "rpm", "-t", dir+"/shell.rpm")
	return dir + "/shell.rpm"
}

// The same life as with rpm, by the commands of docs/install.md. No repository
// is at hand, so dnf resolves among what it is given.
func TestDnfLifecycle(t *testing.T) {
	requireTools(t, "root", "dnf")
	releases, r := buildReleases(t), newDebianRoot(t)
	arguments := []string{"--installroot=" + r.dir, "--disablerepo=*", "--setopt=reposdir=/nonexistent", "-y"}
	dnf := func(args ...string) string {
		t.Helper()
		got := runCommand(t, "dnf", append(arguments, args...)...)
		if strings.Contains(got, "scriptlet failed") {
			t.Errorf("a script failed:\n%s", got)
		}
		return got
	}
	first, shell := releases.original.file(t, "*.rpm"), buildShellPackage(t)

	// Without one dnf must refuse, or the scripts would run before there is a shell.
	if out, err := exec.Command("dnf", append(arguments, "install", first)...).CombinedOutput(); err == nil || !strings.Contains(string(out), "/bin/sh") {
		t.Errorf("installed without a shell: %v\n%s", err, out)
	}
	got := dnf("install", first, shell)
	if before, after := strings.Index(got, "Installing       : shell"), strings.Index(got, "Installing       : inbox"); before < 0 || after < before {
		t.Errorf("the shell does not come first:\n%s", got)
	}
	r.startServer()
	r.checkUpgradeAndRemoval(t, func() { dnf("upgrade", releases.newer.file(t, "*.rpm")) }, func() { dnf("remove", "inbox") })
}
