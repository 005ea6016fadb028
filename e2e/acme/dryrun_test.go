package acme

import (
	"crypto/ecdsa"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"inbox/tlsmgr"
)

// With a staging CA configured, a dry run orders there, even if first orders do not. The
// running server answers its challenges. Failures there are not counted.
func TestDryRunAtStagingCA(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		r := newRig(t, pebbleOptions{}).with(engine)
		staging := r.newCA(pebbleOptions{})
		name := newName()
		c := r.config(name)
		c.ACME.StagingCA = staging.option()
		s := r.serve(c)
		s.waitForCert(waitTimeout, name)
		if staging.orders() != 0 {
			t.Errorf("got %d first orders at the staging CA, want none", staging.orders())
		}
		r.dryRun(c, true)
		if r.ca.orders() != 1 || staging.orders() != 1 {
			t.Errorf("got %d orders and %d at the staging CA, want 1 and 1", r.ca.orders(), staging.orders())
		}
		unreachable := r.newCA(pebbleOptions{httpPort: freePort(t), tlsPort: freePort(t)})
		c.ACME.StagingCA = unreachable.option()
		before := readFile(t, statePath(r, "schedule", name+".json"))
		for range 3 {
			r.dryRun(c, false)
		}
		if got := readFile(t, statePath(r, "schedule", name+".json")); got != before {
			t.Errorf("got schedule\n%swant it unchanged:\n%s", got, before)
		}
	})
}

// dryRun makes a dry run that must succeed, or must fail.
func (r *rig) dryRun(c tlsmgr.Config, succeeds bool) {
	r.t.Helper()
	d, err := tlsmgr.NewDryRun(c)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := d.Order(r.t.Context()); (err == nil) != succeeds {
		r.t.Errorf("dry run: got %v, want success %v", err, succeeds)
	}
	if err := d.Close(); err != nil {
		r.t.Error(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// All files and directories of the state are private to the user of the server.
func TestStateIsPrivate(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		r, name := newRig(t, pebbleOptions{}).with(engine), newName()
		s := r.serveCertified(name)
		s.stop()
		files := 0
		err := filepath.WalkDir(statePath(r), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			files++
			if info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: got mode %v, want no access for group and others", path, info.Mode())
			}
			return nil
		})
		if err != nil || files < 8 {
			t.Errorf("got %d files and directories, %v; want the whole state, 8 at least", files, err)
		}
	})
}

// A dry run orders with the account of the server, and says what it replaces, as the
// server will. It changes nothing that is stored.
func TestDryRunOrdersAsTheServer(t *testing.T) {
	t.Parallel()
	for engine, replacements := range map[string]int{"certmagic": 1, "autocert": 0} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			r, name := newRig(t, pebbleOptions{}).with(engine), newName()
			c := r.config(name)
			s := r.serve(c)
			s.waitForCert(waitTimeout, name)
			pattern := map[string]string{"certmagic": "acme/*/users/*/*.key", "autocert": "autocert/*/acme_account+key"}[engine]
			key := readKey(t, statePath(r, pattern))
			before := s.state(name).Fingerprint
			r.dryRun(c, true)
			if got := r.ca.requestCount("replaces"); got != replacements {
				t.Errorf("got %d orders with a replaces field, want %d", got, replacements)
			}
			if got := r.ca.requestCount("sign-me-up"); engine == "certmagic" && got != 1 {
				t.Errorf("got %d registrations, want that of the server alone", got)
			}
			if got := readKey(t, statePath(r, pattern)); !key.Public().(*ecdsa.PublicKey).Equal(got.Public()) || s.state(name).Fingerprint != before {
				t.Error("the dry run changed the account or the certificate of the server")
			}
		})
	}
}
