package packages

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inbox/e2e"
)

// debianRoot is the root directory of a minimal Debian, whose systemd does not run.
type debianRoot struct {
	t   *testing.T
	dir string
}

// debianArchive returns an archive of a fresh root. It is created once and cached with the tools.
func debianArchive(t *testing.T) string {
	t.Helper()
	requireTools(t, "root", "debootstrap", "chroot")
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(cache, "inbox-tools", "bookworm-systemd-procps.tar")
	if _, err := os.Stat(kept); err != nil {
		fresh := filepath.Join(workDir, "bookworm")
		err := script(`mkdir -p "$(dirname "$2")" && debootstrap --variant=minbase --include=systemd,procps bookworm "$1" &&
			rm -rf "$1"/var/cache/apt/archives/*.deb && tar -cC "$1" -f "$2.new" . && mv "$2.new" "$2" && rm -rf "$1"`, fresh, kept)
		if err != nil {
			t.Fatal(err)
		}
	}
	return kept
}

// newDebianRoot unpacks a fresh root.
func newDebianRoot(t *testing.T) debianRoot {
	t.Helper()
	archive := debianArchive(t)
	r := debianRoot{t, t.TempDir()}
	runCommand(t, "tar", "-xC", r.dir, "-f", archive)
	return r
}

func (r debianRoot) path(name string) string { return filepath.Join(r.dir, name) }

// run runs a command in the root and returns its output.
func (r debianRoot) run(args ...string) string {
	r.t.Helper()
	return runCommand(r.t, "chroot", append([]string{r.dir}, args...)...)
}

// apt runs apt-get with a verb and a package name, or an absolute path of a package file.
func (r debianRoot) apt(verb, what string) string {
	r.t.Helper()
	if filepath.IsAbs(what) {
		inside := "/root/" + filepath.Base(what)
		runCommand(r.t, "cp", what, r.path(inside))
		what = inside
	}
	return r.run("apt-get", "-yq", "--no-install-recommends", verb, what)
}

func (r debianRoot) read(name string) string {
	r.t.Helper()
	text, err := os.ReadFile(r.path(name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

func (r debianRoot) write(name, text string) {
	r.t.Helper()
	if err := os.MkdirAll(filepath.Dir(r.path(name)), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.path(name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// exists reports whether a file exists. A dangling link counts.
func (r debianRoot) exists(name string) bool {
	_, err := os.Lstat(r.path(name))
	return err == nil
}

// wantFiles checks that all files exist, or that none does.
func (r debianRoot) wantFiles(when string, want bool, names ...string) {
	r.t.Helper()
	for _, name := range names {
		if r.exists(name) != want {
			r.t.Errorf("%s: %s exists: got %v, want %v", when, name, !want, want)
		}
	}
}

// enabled reports whether the service starts at boot.
func (r debianRoot) enabled() bool {
	r.t.Helper()
	enabled := r.exists("/etc/systemd/system/multi-user.target.wants/inbox.service")
	for _, socket := range socketUnits {
		if r.exists("/etc/systemd/system/sockets.target.wants/"+socket) != enabled {
			r.t.Errorf("%s: got enabled %v, unlike inbox.service", socket, !enabled)
		}
	}
	return enabled
}

// socketUnits are enabled and disabled together with inbox.service.
var socketUnits = []string{"inbox.socket", "inbox-http.socket", "inbox-turn.socket"}

// startServer starts the installed program without systemd and requests its front page.
func (r debianRoot) startServer() *e2e.Server {
	r.t.Helper()
	s, err := e2e.Start("chroot", r.dir, "/usr/bin/inbox", "-bind", "127.0.0.1:0", "-https=false", "-state", "/var/lib/inbox")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = s.Stop() })
	checkFrontPage(r.t, s)
	return s
}

// checkFrontPage requests the front page of a server.
func checkFrontPage(t *testing.T, s *e2e.Server) {
	t.Helper()
	resp, err := http.Get("http://" + s.Addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("front page: got %s, want 200", resp.Status)
	}
}

// wantContains checks that a text contains another one.
func wantContains(t *testing.T, text, want string) {
	t.Helper()
	if !strings.Contains(text, want) {
		t.Errorf("got %q, want it to contain %q", text, want)
	}
}
