// Package packages tests the release files of scripts/package: it installs, starts,
// upgrades, removes and purges the packages, and runs the container image.
package packages

import (
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// workDir contains the releases, built by the first test that needs them.
var workDir string

func TestMain(m *testing.M) {
	var err error
	if workDir, err = os.MkdirTemp("", "inbox-packages-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(workDir)
	os.Exit(code)
}

// release is an output directory of scripts/package.
type release string

// releases contains a build of a commit of this source tree by scripts/package, and one of a newer
// commit by scripts/release, which builds twice. The logs are their output.
type releases struct {
	original, newer release
	packageLog, log string
}

var build = sync.OnceValues(func() (r releases, err error) {
	source, err := filepath.Abs("../..")
	if err != nil {
		return r, err
	}
	copied := filepath.Join(workDir, "a longer name for a copy of the source")
	r = releases{original: release(workDir + "/here"), newer: release(workDir + "/newer")}
	if err := script(cloneScript+` && cd "$2" && `+commitScript, source, copied); err != nil {
		return r, err
	}
	if r.packageLog, err = runScript(`cd "$1" && scripts/package "$2" linux/amd64`, copied, string(r.original)); err != nil {
		return r, err
	}
	r.log, err = runScript(`cd "$1" && sleep 1 && `+commitScript+` && SAME_CACHE=1 scripts/release "$2" linux/amd64`, copied, string(r.newer))
	return r, err
})

// cloneScript clones the repository $1 to $2, with the changes that are not committed.
const cloneScript = `git clone -q "$1" "$2" && cd "$1" && find "$2" -mindepth 1 -maxdepth 1 -not -name .git -exec rm -r {} + &&
	git ls-files -zco --exclude-standard | tar -c --null -T - --ignore-failed-read | tar -xC "$2"`

// commitScript commits all changes. The versions of two commits differ by a second at least.
const commitScript = `git add -A && git -c user.name=test -c user.email=test@example.org commit -q --allow-empty -m test`

// cloneSource returns a clone of this source tree.
func cloneSource(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "clone")
	if err := script(cloneScript, "../..", dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// script is runScript without its output.
func script(text string, args ...string) error {
	_, err := runScript(text, args...)
	return err
}

// runScript runs a bash script with arguments and returns its output. The timeout is sufficient
// for a build with empty caches.
func runScript(text string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "bash", append([]string{"-euc", "set -o pipefail; " + text, "bash"}, args...)...)
	var out, errs strings.Builder
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), nil
}

func buildReleases(t *testing.T) releases {
	t.Helper()
	requireTools(t, "git")
	r, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// file returns the path of the only file of the release that matches pattern.
func (r release) file(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(string(r), pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s in %s: got %q (%v), want one file", pattern, r, found, err)
	}
	return found[0]
}

// requireTools skips the test if a program is missing, or fails it in CI. The pseudo-program
// root requires the user root.
func requireTools(t *testing.T, programs ...string) {
	t.Helper()
	var missing []string
	for _, p := range programs {
		if p == "root" && os.Getuid() != 0 {
			missing = append(missing, p)
		} else if _, err := exec.LookPath(p); p != "root" && err != nil {
			missing = append(missing, p)
		}
	}
	switch {
	case len(missing) == 0:
	case os.Getenv("CI") != "":
		t.Fatalf("missing: %s; run scripts/test install", strings.Join(missing, ", "))
	default:
		t.Skipf("missing: %s", strings.Join(missing, ", "))
	}
}

// requireSoak skips a slow scene, of which scripts/test runs a similar one.
func requireSoak(t *testing.T) {
	t.Helper()
	if os.Getenv("INSTALLATIONS") == "" {
		t.Skip("part of scripts/soak installations")
	}
}

// runCommand runs a program and returns its output.
func runCommand(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// scripts/release compares two builds. A changed tree and different builds end it.
func TestReleaseIsReproducible(t *testing.T) {
	r := buildReleases(t)
	sums, err := os.ReadFile(r.newer.file(t, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	wantContains(t, r.log, "Both builds are equal.")
	if !strings.HasSuffix(r.log, string(sums)) || len(sums) == 0 {
		t.Errorf("got\n%s\nwant the checksums at the end:\n%s", r.log, sums)
	}
	clone := cloneSource(t)
	if err := script(`cd "$1" && echo >>README.md && scripts/release "$2" linux/amd64`, clone, t.TempDir()+"/dist"); err == nil {
		t.Error("got a release of a changed tree")
	}
}

// scripts/package prints each file that it makes, once.
func TestPackagePrintsSteps(t *testing.T) {
	r := buildReleases(t)
	for _, pattern := range []string{"inbox-linux-amd64", "sbom-*", "licences-*", "*.deb", "*.rpm"} {
		line := fmt.Sprintf("%-14s %s\n", "linux/amd64", filepath.Base(r.original.file(t, pattern)))
		if strings.Count(r.packageLog, line) != 1 {
			t.Errorf("got\n%s\nwant once: %s", r.packageLog, line)
		}
	}
}

// A platform as the first argument would otherwise be the name of the directory.
func TestScriptsCheckArguments(t *testing.T) {
	for _, name := range []string{"package", "release"} {
		wantContains(t, runCommand(t, "../../scripts/"+name, "-h"), "scripts/"+name+" DIR [OS/ARCH …]")
		out, err := exec.Command("../../scripts/"+name, "linux/amd64").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "scripts/"+name+" dist linux/amd64") {
			t.Errorf("%s: got %v and %q, want the correct arguments", name, err, out)
		}
	}
}

func TestChecksumsNameEveryFile(t *testing.T) {
	r := buildReleases(t)
	checked := runCommand(t, "sh", "-c", `cd "$0" && sha256sum -c SHA256SUMS`, string(r.original))
	entries, err := os.ReadDir(string(r.original))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() && e.Name() != "SHA256SUMS" && !strings.Contains(checked, e.Name()+": OK\n") {
			t.Errorf("got no checksum of %s:\n%s", e.Name(), checked)
		}
	}
}

func TestBinaryIsStatic(t *testing.T) {
	f, err := elf.Open(buildReleases(t).original.file(t, "inbox-linux-amd64"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("got segment %v, want a static binary", p.Type)
		}
	}
}

func TestBinaryReportsCommit(t *testing.T) {
	got := runCommand(t, buildReleases(t).newer.file(t, "inbox-linux-amd64"), "version")
	fields := strings.Fields(got)
	if len(fields) != 8 || strings.Contains(got, "unknown") || len(fields[3]) != 12 || fields[7] != "linux/amd64)" {
		t.Errorf("inbox version: got %q, want version, commit and platform", got)
	}
}

func TestSBOMListsModules(t *testing.T) {
	r := buildReleases(t)
	text, err := os.ReadFile(r.original.file(t, "sbom-linux-amd64.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var sbom struct {
		BomFormat  string
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(text, &sbom); err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for _, c := range sbom.Components {
		listed[c.Name] = c.Version
	}
	modules := 0
	for line := range strings.Lines(runCommand(t, "go", "version", "-m", r.original.file(t, "inbox-linux-amd64"))) {
		if f := strings.Fields(line); f[0] == "dep" {
			modules++
			if listed[f[1]] != f[2] {
				t.Errorf("%s: got version %q in the SBOM, want %q", f[1], listed[f[1]], f[2])
			}
		}
	}
	if modules == 0 || sbom.BomFormat != "CycloneDX" || len(listed) != modules+1 { // one more for the standard library
		t.Errorf("got %d components in format %q, want %d in CycloneDX", len(listed), sbom.BomFormat, modules+1)
	}
}

func TestLintian(t *testing.T) {
	requireTools(t, "lintian")
	if got := runCommand(t, "lintian", "--allow-root", "--fail-on", "error,warning", buildReleases(t).original.file(t, "*.deb")); strings.TrimSpace(got) != "" {
		t.Error(got)
	}
}
