package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// shellPackageConfig describes a package that provides /bin/sh to rpm. The Debian root has
// a shell, but the rpm database does not list it.
const shellPackageConfig = `name: shell
arch: amd64
platform: linux
version: 1.0.0
maintainer: Test <test@example.org>
description: provides /bin/sh
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

// Installation, upgrade and removal with dnf, as with rpm. Without a repository, dnf
// resolves dependencies only among the given files.
func TestDnfLifecycle(t *testing.T) {
	requireSoak(t) // TestRpmLifecycle runs the same scriptlets
	requireTools(t, "root", "dnf")
	releases, r := buildReleases(t), newDebianRoot(t)
	arguments := []string{"--installroot=" + r.dir, "--disablerepo=*", "--setopt=reposdir=/nonexistent", "-y"}
	dnf := func(args ...string) string {
		t.Helper()
		got := runCommand(t, "dnf", append(arguments, args...)...)
		if strings.Contains(got, "scriptlet failed") {
			t.Errorf("got a failed scriptlet:\n%s", got)
		}
		return got
	}
	first, shell := releases.original.file(t, "*.rpm"), buildShellPackage(t)

	// dnf must refuse the package without a shell, which the scriptlets need.
	if out, err := exec.Command("dnf", append(arguments, "install", first)...).CombinedOutput(); err == nil || !strings.Contains(string(out), "/bin/sh") {
		t.Errorf("install without a shell: got %v, want an error about /bin/sh:\n%s", err, out)
	}
	got := dnf("install", first, shell)
	if before, after := strings.Index(got, "Installing       : shell"), strings.Index(got, "Installing       : inbox"); before < 0 || after < before {
		t.Errorf("install: want the shell before inbox:\n%s", got)
	}
	r.startServer()
	r.checkUpgradeAndRemoval(t, func() { dnf("upgrade", releases.newer.file(t, "*.rpm")) }, func() { dnf("remove", "inbox") })
}
