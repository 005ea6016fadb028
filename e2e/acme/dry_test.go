package acme

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"inbox/tlsmgr"
)

// Where orders can be tried out, a dry one goes there, whether first orders do
// or not, through the server that runs; what fails there is not counted.
func TestDryOrderAtTheTrial(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{tlsmgr.CertMagic, tlsmgr.Autocert} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{})
			trial := newPebble(t, pebbleOptions{httpPort: r.httpPort, tlsPort: r.tlsPort, nameserver: r.names.addr})
			name := newName()
			c := r.config(name)
			c.ACME.Engine = engine
			c.ACME.StagingCA = tlsmgr.CA{URL: trial.url(), RootsFile: trial.roots}
			s := r.serve(c)
			s.certified(patience, name)
			if trial.orders() != 0 {
				t.Errorf("%d first orders at the trial, want none", trial.orders())
			}
			r.dry(c, true)
			if r.ca.orders() != 1 || trial.orders() != 1 {
				t.Errorf("%d orders and %d at the trial, want one each", r.ca.orders(), trial.orders())
			}
			elsewhere := newPebble(t, pebbleOptions{httpPort: freePort(t), tlsPort: freePort(t), nameserver: r.names.addr})
			c.ACME.StagingCA = tlsmgr.CA{URL: elsewhere.url(), RootsFile: elsewhere.roots}
			before := read(t, statePath(r, "schedule", name+".json"))
			for range 3 {
				r.dry(c, false)
			}
			if got := read(t, statePath(r, "schedule", name+".json")); got != before {
				t.Errorf("the record was\n%sand is\n%s", before, got)
			}
		})
	}
}

// dry makes a dry order, which succeeds or does not.
func (r *rig) dry(c tlsmgr.Config, succeeds bool) {
	r.t.Helper()
	d, err := tlsmgr.NewDryRun(c)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := d.Order(r.t.Context()); (err == nil) != succeeds {
		r.t.Errorf("a dry order: %v, want success %v", err, succeeds)
	}
	if err := d.Close(); err != nil {
		r.t.Error(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Keys are kept from other users of the machine, and so is the rest.
func TestStateIsPrivate(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{tlsmgr.CertMagic, tlsmgr.Autocert} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{})
			name := newName()
			c := r.config(name)
			c.ACME.Engine = engine
			s := r.serve(c)
			s.certified(patience, name)
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
					t.Errorf("%s has mode %v", path, info.Mode())
				}
				return nil
			})
			if err != nil || files < 8 {
				t.Errorf("%d files and directories, %v; want all that is kept", files, err)
			}
		})
	}
}
