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
func TestDryRunAtStagingCA(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{tlsmgr.CertMagic, tlsmgr.Autocert} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{})
			staging := newPebble(t, pebbleOptions{httpPort: r.httpPort, tlsPort: r.tlsPort, nameserver: r.names.addr})
			name := newName()
			c := r.config(name)
			c.ACME.Engine = engine
			c.ACME.StagingCA = tlsmgr.CA{URL: staging.url(), RootsFile: staging.serverRootFile}
			s := r.serve(c)
			s.waitForCert(waitTimeout, name)
			if staging.orders() != 0 {
				t.Errorf("%d first orders at the trial, want none", staging.orders())
			}
			r.dryRun(c, true)
			if r.ca.orders() != 1 || staging.orders() != 1 {
				t.Errorf("%d orders and %d at the trial, want one each", r.ca.orders(), staging.orders())
			}
			unreachable := newPebble(t, pebbleOptions{httpPort: freePort(t), tlsPort: freePort(t), nameserver: r.names.addr})
			c.ACME.StagingCA = tlsmgr.CA{URL: unreachable.url(), RootsFile: unreachable.serverRootFile}
			before := readFile(t, statePath(r, "schedule", name+".json"))
			for range 3 {
				r.dryRun(c, false)
			}
			if got := readFile(t, statePath(r, "schedule", name+".json")); got != before {
				t.Errorf("the record was\n%sand is\n%s", before, got)
			}
		})
	}
}

// dryRun makes a dry order, which succeeds or does not.
func (r *rig) dryRun(c tlsmgr.Config, succeeds bool) {
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

func readFile(t *testing.T, path string) string {
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
			s.waitForCert(waitTimeout, name)
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
