package packages

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inbox/e2e"
)

// buildImage builds the image of the Containerfile and returns its root directory. buildah
// requires root here, but the container runs as the unprivileged user of the image.
func buildImage(t *testing.T) string {
	t.Helper()
	requireTools(t, "root", "buildah", "unshare")
	r := buildReleases(t)
	dir := t.TempDir()
	buildah := func(args ...string) string {
		t.Helper()
		return runCommand(t, "buildah", append([]string{"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs"}, args...)...)
	}
	runCommand(t, "cp", "-a", "../../Containerfile", "../../.dockerignore", dir)
	runCommand(t, "cp", "-a", string(r.original), dir+"/dist")
	buildah("build", "--isolation", "chroot", "--platform", "linux/amd64", "-t", "inbox", dir)
	container := strings.TrimSpace(buildah("from", "--pull-never", "inbox"))
	config := buildah("inspect", "--format", "{{.OCIv1.Config.User}} {{.OCIv1.Config.WorkingDir}} {{.OCIv1.Config.Cmd}} {{.OCIv1.Config.Env}}", container)
	ports := buildah("inspect", "--format", "{{range $port, $_ := .OCIv1.Config.ExposedPorts}}{{$port}} {{end}}", container)
	if got := strings.Fields(ports); !slices.Equal(got, []string{"3000", "3478/udp"}) && !slices.Equal(got, []string{"3000/tcp", "3478/udp"}) {
		t.Errorf("got exposed ports %q, want those of HTTPS and TURN", got)
	}
	if want := "65532:65532 /app [./inbox] ["; !strings.HasPrefix(config, want) || !strings.Contains(config, "STATE_DIRECTORY=/var/lib/inbox") {
		t.Errorf("got image configuration %q, want %q and STATE_DIRECTORY", config, want)
	}
	return strings.TrimSpace(buildah("mount", container))
}

// containerScript runs a command like a container engine, with the user, working directory
// and environment of the image. All files are read-only, except for the volume.
const containerScript = `
root=$1 volume=$2 at=$3; shift 3
mount --bind "$root" "$root" && mount -o remount,bind,ro "$root"
[ -z "$volume" ] || mount --bind "$volume" "$root$at"
exec env -i STATE_DIRECTORY=/var/lib/inbox unshare --root="$root" --wd=/app --setgid=65532 --setuid=65532 "$@"`

// startContainer runs ./inbox of the image, with volume mounted at the path at unless it is
// empty.
func startContainer(t *testing.T, image, volume, at string, args ...string) *e2e.Server {
	t.Helper()
	command := []string{"--mount", "--ipc", "--uts", "sh", "-euc", containerScript, "sh", image, volume, at, "./inbox", "--bind=127.0.0.1:0"}
	s, err := e2e.Start("unshare", append(command, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// The image serves without HTTPS, with mounted certificate files, and with a volume for
// persistent state.
func TestImageServes(t *testing.T) {
	root := buildImage(t)

	t.Run("http", func(t *testing.T) {
		s := startContainer(t, root, "", "", "--https=false")
		checkFrontPage(t, s)
		if left := runCommand(t, "find", root, "-newer", filepath.Join(root, "app/inbox"), "-type", "f"); left != "" {
			t.Errorf("got files written into the image, want none:\n%s", left)
		}
	})

	t.Run("certificates", func(t *testing.T) {
		certs := t.TempDir()
		runCommand(t, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=cert.test",
			"-keyout", certs+"/server.key", "-out", certs+"/server.crt")
		runCommand(t, "chown", "-R", "65532", certs)
		if err := os.Mkdir(filepath.Join(root, "cert"), 0o755); err != nil { // an engine creates the mount point
			t.Fatal(err)
		}
		s := startContainer(t, root, certs, "/cert", "--server-cert=/cert/server.crt", "--server-key=/cert/server.key")
		if got := servedCommonName(t, s); got != "cert.test" {
			t.Errorf("got the certificate of %q, want the mounted one of cert.test", got)
		}
	})

	t.Run("volume", func(t *testing.T) {
		state := t.TempDir()
		runCommand(t, "chown", "65532", state)
		s := startContainer(t, root, state, "/var/lib/inbox")
		servedCommonName(t, s)
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
