package acme

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A power failure can leave files that consist of zeros. Without the quarantine, each of
// these files would prevent every further order.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, engine, file string
	}{
		{"lock", "certmagic", "locks/issue_cert_NAME.lock"},
		{"certificate", "certmagic", "certificates/CA/NAME/NAME.crt"},
		{"key", "certmagic", "certificates/CA/NAME/NAME.key"},
		{"metadata", "certmagic", "certificates/CA/NAME/NAME.json"},
		{"account", "certmagic", "acme/CA/users/me@example.test/me.json"},
		{"account key", "certmagic", "acme/CA/users/me@example.test/me.key"},
		{"autocert certificate", "autocert", "autocert/CA/NAME"},
		{"autocert account", "autocert", "autocert/CA/acme_account+key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, name := newRig(t, pebbleOptions{}).with(tt.engine), newName()
			c := r.config(name)
			s := r.serve(c)
			s.waitForCert(waitTimeout, name)
			leaf, err := s.servedCert(name)
			if err != nil {
				t.Fatal(err)
			}
			s.stop()
			r.ca.setRenewalWindow(leaf, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)) // due
			r.corrupt(name, tt.file)
			s = r.serve(c)
			s.waitForCert(waitTimeout, name)
			eventually(t, waitTimeout, "a second order is made", func() bool { return r.ca.orders() == 2 })
			eventually(t, waitTimeout, "the certificate is obtained", func() bool { return s.state(name).Obtained == 1 })
			if isLock := tt.name == "lock"; !isLock && !s.log.has("quarantined") { // the content of a lock file does not matter
				t.Error("the log does not report the quarantined file")
			}
		})
	}
}

// corrupt overwrites a file with zeros, dates it to yesterday, and removes the schedule, so
// that the next start orders a certificate.
func (r *rig) corrupt(name, file string) {
	r.t.Helper()
	ca := strings.ReplaceAll(r.ca.addr, ":", "-") + "-dir"
	path := statePath(r, strings.NewReplacer("CA", ca, "NAME", name).Replace(file))
	if found, err := filepath.Glob(statePath(r, "certificates", "*")); err == nil && len(found) == 1 {
		path = strings.Replace(path, filepath.Join("certificates", ca), filepath.Join("certificates", filepath.Base(found[0])), 1)
	}
	if found, err := filepath.Glob(statePath(r, "acme", "*")); err == nil && len(found) == 1 {
		path = strings.Replace(path, filepath.Join("acme", ca), filepath.Join("acme", filepath.Base(found[0])), 1)
	}
	if _, err := os.Stat(path); err != nil && !strings.Contains(file, "lock") {
		r.t.Fatalf("unexpected storage layout of the library: %v", err)
	}
	writeFile(r.t, path, bytes.Repeat([]byte{0}, 300))
	yesterday := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(path, yesterday, yesterday); err != nil {
		r.t.Fatal(err)
	}
	if err := os.RemoveAll(statePath(r, "schedule")); err != nil {
		r.t.Fatal(err)
	}
	r.removeCert(name, file)
}

// removeCert removes the certificate, unless file is a part of it.
func (r *rig) removeCert(name, file string) {
	r.t.Helper()
	if strings.Contains(file, "NAME") && !strings.Contains(file, "lock") {
		return
	}
	for _, pattern := range []string{"certificates/*/" + name, "autocert/*/" + name} {
		found, err := filepath.Glob(statePath(r, pattern))
		if err != nil {
			r.t.Fatal(err)
		}
		for _, path := range found {
			if err := os.RemoveAll(path); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

// A damaged schedule is replaced, as if an order had failed.
func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{}), newName()
	s := r.serveCertified(name)
	s.stop()
	found, err := filepath.Glob(statePath(r, "schedule", name+".json"))
	if err != nil || len(found) != 1 {
		t.Fatalf("got schedules %v, %v; want one", found, err)
	}
	writeFile(t, found[0], []byte("{\"Next\""))
	if err := os.RemoveAll(statePath(r, "certificates")); err != nil {
		t.Fatal(err)
	}
	s = r.serve(r.config(name))
	eventually(t, waitTimeout, "the name backs off", func() bool { return s.state(name).Status == "waiting to retry" })
	if got := r.ca.orders(); got != 1 {
		t.Errorf("got %d orders, want none after the first", got)
	}
}
