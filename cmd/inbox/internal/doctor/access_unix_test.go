//go:build unix

package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The files are examined as the user of the service, along certbot's links.
func TestObstacleForServiceUser(t *testing.T) {
	dir := t.TempDir()
	for _, parent := range []string{filepath.Dir(filepath.Dir(dir)), filepath.Dir(dir), dir} {
		info, err := os.Stat(parent)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&1 == 0 {
			if err := os.Chmod(parent, info.Mode().Perm()|0o011); err != nil {
				t.Skip(err)
			}
		}
	}
	archive, live := filepath.Join(dir, "archive"), filepath.Join(dir, "live")
	for _, d := range []string{archive, live} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	key, link := filepath.Join(archive, "privkey1.pem"), filepath.Join(live, "privkey.pem")
	if err := os.WriteFile(key, []byte("key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(key, link); err != nil {
		t.Fatal(err)
	}
	stranger := serviceUser{uid: 4242, groups: []uint32{4242}}
	for _, tt := range []struct {
		path string
		mode os.FileMode
		want string
	}{{key, 0o644, ""}, {key, 0o600, "privkey1.pem has mode 0600"}, {archive, 0o700, "archive has mode 0700"}, {live, 0o700, "live has mode 0700"}} {
		before, err := os.Stat(tt.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(tt.path, tt.mode); err != nil {
			t.Fatal(err)
		}
		if got := stranger.obstacle(link); tt.want == "" && got != "" || !strings.HasSuffix(got, tt.want) {
			t.Errorf("%s with mode %o: got %q, want %q", tt.path, tt.mode, got, tt.want)
		}
		if err := os.Chmod(tt.path, before.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
}
