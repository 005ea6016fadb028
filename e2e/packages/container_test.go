package packages

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inbox/e2e"
)

// buildah runs buildah with a storage of its own.
type buildah struct {
	t   *testing.T
	dir string
}

func newBuildah(t *testing.T) buildah {
	t.Helper()
	requireTools(t, "root", "buildah", "unshare", "nsenter")
	return buildah{t, t.TempDir()}
}

func (b buildah) run(args ...string) string {
	b.t.Helper()
	storage := []string{"--root", b.dir + "/root", "--runroot", b.dir + "/run", "--storage-driver", "vfs"}
	out, err := runScript(`buildah "$@" </dev/null`, append(storage, args...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// mount checks the configuration of the image inbox and returns its root directory.
func (b buildah) mount() string {
	b.t.Helper()
	container := strings.TrimSpace(b.run("from", "--pull-never", "inbox"))
	config := b.run("inspect", "--format", "{{.Docker.Config.User}} {{.Docker.Config.WorkingDir}} {{.Docker.Config.Cmd}} {{.Docker.Config.Healthcheck.Test}} {{.Docker.Config.Env}}", container)
	ports := b.run("inspect", "--format", "{{range $port, $_ := .OCIv1.Config.ExposedPorts}}{{$port}} {{end}}", container)
	if got := strings.Fields(ports); !slices.Equal(got, []string{"3000", "3478/udp"}) && !slices.Equal(got, []string{"3000/tcp", "3478/udp"}) {
		b.t.Errorf("got exposed ports %q, want those of HTTPS and TURN", got)
	}
	if want := "65532:65532 /app [./inbox] [CMD ./inbox health] ["; !strings.HasPrefix(config, want) || !strings.Contains(config, "STATE_DIRECTORY=/var/lib/inbox") {
		b.t.Errorf("got image configuration %q, want %q and STATE_DIRECTORY", config, want)
	}
	root := strings.TrimSpace(b.run("mount", container))
	for _, dir := range []string{"proc", "cert"} { // an engine creates mount points
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	return root
}

// imageOfRelease builds the image of the released binary. buildah requires root here, but the
// container runs as the unprivileged user of the image.
func imageOfRelease(t *testing.T) string {
	t.Helper()
	b := newBuildah(t)
	b.run("build", "--isolation", "chroot", "--format", "docker", "--platform", "linux/amd64", "-t", "inbox",
		"-f", "../../scripts/packaging/Containerfile", string(buildReleases(t).original))
	return b.mount()
}

// baseImage is the image that the Dockerfile builds in. The test gives its name to a Debian root
// with the Go toolchain and the modules of this machine.
const baseImage = "docker.io/library/golang:1.26"

// imageOfClone builds the image of the Dockerfile in a fresh clone, as the documentation says.
func imageOfClone(t *testing.T) string {
	t.Helper()
	b := newBuildah(t)
	base := strings.TrimSpace(b.run("from", "scratch"))
	b.run("add", "--quiet", base, debianArchive(t), "/")
	b.run("config", "--env", "PATH=/usr/local/go/bin:/usr/bin:/bin", "--env", "GOPATH=/go", "--env", "GOPROXY=off", base)
	b.run("commit", "--quiet", "--rm", base, baseImage)
	clone := cloneSource(t)
	build := []string{"build", "--isolation", "chroot", "--format", "docker", "--pull-never", "-t", "inbox"}
	for at, variable := range map[string]string{"/usr/local/go": "GOROOT", "/go/pkg/mod": "GOMODCACHE", "/root/.cache/go-build": "GOCACHE"} {
		build = append(build, "--volume", strings.TrimSpace(runCommand(t, "go", "env", variable))+":"+at)
	}
	b.run(append(build, clone)...)
	return b.mount()
}

// containerScript runs a command like a container engine, with the user, working directory
// and environment of the image. All files are read-only, except for the volume.
const containerScript = `
root=$1 volume=$2 at=$3; shift 3
mount --bind "$root" "$root" && mount -o remount,bind,ro "$root"
mount --rbind /proc "$root/proc"
[ -z "$volume" ] || mount --bind "$volume" "$root$at"
exec env -i STATE_DIRECTORY=/var/lib/inbox unshare --root="$root" --wd=/app --setgid=65532 --setuid=65532 "$@"`

// container is a running container of the image.
type container struct {
	*e2e.Server
	t *testing.T
}

// containerCommand returns a command that runs ./inbox on a free port, as if it was published.
func containerCommand(t *testing.T, image, volume, at string, args ...string) *exec.Cmd {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	command := []string{"--mount", "--ipc", "--uts", "sh", "-euc", containerScript, "sh", image, volume, at, "./inbox", "--bind=" + l.Addr().String()}
	return exec.Command("unshare", append(command, args...)...)
}

// startContainer runs ./inbox of the image, with volume mounted at the path at unless it is
// empty, and waits for its health check.
func startContainer(t *testing.T, image, volume, at string, args ...string) container {
	t.Helper()
	s, err := e2e.StartWith(containerCommand(t, image, volume, at, args...), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	c := container{s, t}
	c.checkHealth()
	return c
}

// checkHealth runs the health check of the image, which gets the environment of the container
// but not the arguments of its command.
func (c container) checkHealth() {
	c.t.Helper()
	got := runCommand(c.t, "nsenter", "--target", fmt.Sprint(c.PID()), "--mount", "--root", "--wd", "--setgid=65532", "--setuid=65532", "./inbox", "health")
	if !strings.HasPrefix(got, "ok: ") {
		c.t.Errorf("health check: got %q, want ok", got)
	}
}

// The images serve as the documentation says: without HTTPS, with mounted certificate files, and
// with a volume for persistent state.
func TestImageServes(t *testing.T) {
	t.Run("of the release", func(t *testing.T) { testImage(t, imageOfRelease(t)) })
	t.Run("of a clone", func(t *testing.T) {
		requireSoak(t)
		testImage(t, imageOfClone(t))
	})
}

func testImage(t *testing.T, root string) {
	t.Run("http", func(t *testing.T) {
		c := startContainer(t, root, "", "", "--https=false")
		checkFrontPage(t, c.Server)
		if left := runCommand(t, "find", root, "-newer", filepath.Join(root, "app/inbox"), "-type", "f"); left != "" {
			t.Errorf("got files written into the image, want none:\n%s", left)
		}
	})

	t.Run("certificates", func(t *testing.T) {
		certs := t.TempDir()
		runCommand(t, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=cert.test",
			"-keyout", certs+"/server.key", "-out", certs+"/server.crt")
		args := []string{"--server-cert=/cert/server.crt", "--server-key=/cert/server.key"}
		out, err := containerCommand(t, root, certs, "/cert", args...).CombinedOutput()
		wantContains(t, string(out), "the server runs as user 65532, which needs access: chown 65532 /cert")
		if err == nil {
			t.Error("got a server whose user cannot read the key")
		}
		runCommand(t, "chown", "-R", "65532", certs)
		if got := servedCommonName(t, startContainer(t, root, certs, "/cert", args...).Server); got != "cert.test" {
			t.Errorf("got the certificate of %q, want the mounted one of cert.test", got)
		}
	})

	t.Run("volume", func(t *testing.T) {
		state := t.TempDir()
		runCommand(t, "chown", "65532", state)
		servedCommonName(t, startContainer(t, root, state, "/var/lib/inbox").Server)
		if _, err := os.Stat(filepath.Join(state, "secret")); err != nil {
			t.Errorf("got no secret in the volume: %v", err)
		}
	})
}

// servedCommonName requests the front page over HTTPS and returns the common name of the
// certificate.
func servedCommonName(t *testing.T, s *e2e.Server) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + s.Addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("front page: got %s, want 200", resp.Status)
	}
	return resp.TLS.PeerCertificates[0].Subject.CommonName
}
