package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inbox/cmd/inbox/internal/host"
)

// A directory of pages must not contain what the server keeps private.
func TestPublicDirectoryMustNotContainPrivateFiles(t *testing.T) {
	site, outside := t.TempDir(), t.TempDir()
	for _, name := range []string{"state", "sub/keys"} {
		if err := os.MkdirAll(filepath.Join(site, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(site, "turn.json"), `[{"urls": "turn:turn.example", "username": "u", "credential": "c"}]`)
	writeFile(t, filepath.Join(site, "sub/conf"), "cors\n")
	writeFile(t, filepath.Join(site, "sub/keys/store"), "redis://localhost")
	writeFile(t, filepath.Join(outside, "turn.json"), `[{"urls": "turn:turn.example", "username": "u", "credential": "c"}]`)
	links := map[string]string{
		filepath.Join(outside, "site"):       site,
		filepath.Join(outside, "state"):      filepath.Join(site, "state"),
		filepath.Join(outside, "linked"):     filepath.Join(site, "turn.json"),
		filepath.Join(site, "outside"):       outside,
		filepath.Join(site, "linked-2.json"): filepath.Join(outside, "turn.json"),
	}
	for link, target := range links {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, want string
		args       []string
	}{
		{"state below", "the state directory", []string{"-state", filepath.Join(site, "state")}},
		{"state equal", "the state directory", []string{"-state", site}},
		{"state that does not exist yet", "the state directory", []string{"-state", filepath.Join(site, "new/state")}},
		{"state behind a link", "the state directory", []string{"-state", filepath.Join(outside, "state")}},
		{"state beside", "", []string{"-state", outside}},
		{"pages behind a link", "the state directory", []string{"-public", filepath.Join(outside, "site"), "-state", filepath.Join(site, "state")}},
		{"configuration file", "the file of -config", []string{"-config", filepath.Join(site, "sub/conf")}},
		{"credentials", "the file of -ice-servers", []string{"-ice-servers", filepath.Join(site, "turn.json")}},
		{"credentials by a link to it", "the file of -ice-servers", []string{"-ice-servers", filepath.Join(outside, "linked")}},
		{"credentials by a link in it", "the file of -ice-servers", []string{"-ice-servers", filepath.Join(site, "linked-2.json")}},
		{"credentials outside", "", []string{"-ice-servers", filepath.Join(outside, "turn.json")}},
		{"STUN URLs", "", []string{"-ice-servers", "stun:stun.example"}},
		{"store address", "the file of -store-file", []string{"-store-file", filepath.Join(site, "sub/keys/store")}},
		{"key that does not exist", "the file of -server-key", []string{"-server-key", filepath.Join(site, "missing.key")}},
		{"certificate", "the file of -server-cert", []string{"-server-cert", filepath.Join(site, "server.crt")}},
		{"account key", "the file of -acme-eab-key", []string{"-acme-eab-key", filepath.Join(site, "mac")}},
		{"another directory named alike", "", []string{"-state", site + "-state"}},
		{"embedded pages", "", []string{"-public", "", "-state", filepath.Join(site, "state")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"-public", site, "-state", outside}, tt.args...)
			_, err := resolve(Facts{}, uniqueOptions(args)...)
			if tt.want == "" {
				if err != nil {
					t.Errorf("got error %v, want none", err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), "-public ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one that names -public and %s", err, tt.want)
			}
		})
	}
}

// uniqueOptions keeps the last value of each option.
func uniqueOptions(args []string) (kept []string) {
	last := map[string]string{}
	for i := 0; i < len(args); i += 2 {
		last[args[i]] = args[i+1]
	}
	for name, value := range last {
		kept = append(kept, name, value)
	}
	return kept
}

// The default certificate files count only if they exist, and the state directory of the
// environment counts like the one of the option.
func TestPublicDirectoryAndDefaults(t *testing.T) {
	site := t.TempDir()
	t.Chdir(site)
	in := func(assignment string) error {
		getenv := func(name string) string { return host.Getenv([]string{assignment}, name) }
		_, err := resolve(Facts{Getenv: getenv}, "-public", ".")
		return err
	}
	if err := in("HOME=" + t.TempDir()); err != nil {
		t.Errorf("got error %v without files, want none", err)
	}
	for _, variable := range []string{"STATE_DIRECTORY=", "XDG_STATE_HOME=", "HOME="} {
		if err := in(variable + site); err == nil || !strings.Contains(err.Error(), "the state directory") {
			t.Errorf("%s: got error %v, want one about the state directory", variable, err)
		}
	}
	writeFile(t, "server.key", "x")
	if err := in("HOME=" + t.TempDir()); err == nil || !strings.Contains(err.Error(), "the file of -server-key") {
		t.Errorf("got error %v, want one about -server-key", err)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
