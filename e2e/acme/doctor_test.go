package acme

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// doctorFinding is one line of «inbox doctor -json».
type doctorFinding struct{ Check, Name, Level, Text, Fix string }

// runDoctor examines the site of a name with the options of startProgram.
func (r *rig) runDoctor(name string, extraArgs ...string) map[string]doctorFinding {
	r.t.Helper()
	path, err := program()
	if err != nil {
		r.t.Fatal(err)
	}
	args := append([]string{"doctor", "-json", "-domain", name, "-email", "me@example.test", "-state", r.dir,
		"-bind", addrOf(r.tlsPort), "-http-bind", addrOf(r.httpPort),
		"-acme-ca", r.ca.url(), "-acme-root", r.ca.serverRootFile}, extraArgs...)
	out, err := exec.CommandContext(r.t.Context(), path, args...).Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		r.t.Fatalf("the doctor: %v\n%s", err, out)
	}
	var all []doctorFinding
	if err := json.Unmarshal(out, &all); err != nil {
		r.t.Fatalf("the doctor said %q: %v", out, err)
	}
	found := map[string]doctorFinding{}
	for _, d := range all {
		found[d.Check] = d
	}
	return found
}

// TestDoctorDryRun: the whole way through, and nothing is kept.
func TestDoctorDryRun(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{})
	got := r.runDoctor(newName(), "-renew-test", "-acme-preflight=false")
	if d := got["renew-test"]; d.Level != "ok" || r.ca.orders() != 1 {
		t.Errorf("got %+v and %d orders, want one that went well", d, r.ca.orders())
	}
	if d := got["ca"]; d.Level != "ok" {
		t.Errorf("got %+v, want the authority reached", d)
	}
}

// TestDoctorReportsCertificates: those that are stored, and that there are none.
func TestDoctorReportsCertificates(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{})
	name := newName()
	if d := r.runDoctor(name)["certificates"]; !strings.Contains(d.Text, "No certificate from the CA yet") {
		t.Errorf("got %+v, want none", d)
	}
	stop := r.startProgram(name)
	r.waitUntilServed(name)
	stop()
	if d := r.runDoctor(name)["certificates"]; d.Level != "ok" || !strings.Contains(d.Text, "until") {
		t.Errorf("got %+v, want the certificate that was obtained", d)
	}
}

// TestDoctorReportsFailedOrders: the authority cannot reach the site, whose
// server records that; a dry order fails in the same way.
func TestDoctorReportsFailedOrders(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{httpPort: freePort(t), tlsPort: freePort(t)})
	name := newName()
	stop := r.startProgram(name)
	eventually(t, 30*time.Second, "a failed order is on record", func() bool { return r.runDoctor(name)["supervisor"].Level == "warning" })
	stop()
	got := r.runDoctor(name, "-renew-test", "-acme-preflight=false")
	if d := got["supervisor"]; d.Level != "warning" || d.Name != name || !strings.Contains(d.Fix, "retries at") {
		t.Errorf("got %+v, want the failed order and when the next one is", d)
	}
	if d := got["renew-test"]; d.Level != "failure" {
		t.Errorf("got %+v, want a failure", d)
	}
}

// listStateDir lists what is below the state directory, but for the directories'
// own times.
func (r *rig) listStateDir() string {
	r.t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintln(&all, path, info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all.String()
}

// TestDoctorChangesNothing: an examination of a fresh directory, and of one with
// certificates, leaves both as they were.
func TestDoctorChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{})
	name := newName()
	r.runDoctor(name)
	if got := r.listStateDir(); got != "" {
		t.Errorf("a fresh directory holds afterwards:\n%s", got)
	}
	stop := r.startProgram(name)
	r.waitUntilServed(name)
	stop()
	before := r.listStateDir()
	r.runDoctor(name)
	if got := r.listStateDir(); got != before {
		t.Errorf("the directory held\n%sand holds afterwards\n%s", before, got)
	}
}

// TestDoctorDryRunWhileServerRuns: the server answers for the doctor, whose
// order brings it nothing.
func TestDoctorDryRunWhileServerRuns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, engine, challenge string }{
		{"certmagic over TLS", "certmagic", "tls-alpn-01"},
		{"certmagic over HTTP", "certmagic", "http-01"},
		{"autocert", "autocert", "both"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{})
			name := newName()
			more := []string{"-acme", tt.engine, "-acme-challenge", tt.challenge}
			r.startProgram(name, more...)
			r.waitUntilServed(name)
			before := r.servedSerial(name)
			got := r.runDoctor(name, append(more, "-renew-test", "-acme-preflight=false")...)
			if d := got["renew-test"]; d.Level != "ok" || r.ca.orders() != 2 {
				t.Errorf("got %+v and %d orders, want one beside the server's", d, r.ca.orders())
			}
			time.Sleep(2 * time.Second) // for a server that would take it up
			if r.servedSerial(name) != before {
				t.Error("the server took the dry order's certificate up")
			}
			if left := r.challengeFiles(); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// servedSerial is that of the certificate that a running program shows.
func (r *rig) servedSerial(name string) string {
	r.t.Helper()
	leaf, err := (&testServer{t: r.t, rig: r, host: "127.0.0.1"}).servedCert(name)
	if err != nil {
		r.t.Fatal(err)
	}
	return leaf.SerialNumber.String()
}

// challengeFiles are the answers that are laid out in the state directory.
func (r *rig) challengeFiles() (left []string) {
	for _, pattern := range []string{"acme/*/challenge_tokens/*.json", "autocert/*/*+token", "autocert/*/*+http-01"} {
		found, err := filepath.Glob(statePath(r, pattern))
		if err != nil {
			r.t.Fatal(err)
		}
		left = append(left, found...)
	}
	return left
}

// TestDryRunValidationsAreCounted: at an authority of the server's own, validations that
// fail in dry orders count with the server's, and the fifth is not made.
func TestDryRunValidationsAreCounted(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"certmagic", "autocert"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{httpPort: freePort(t), tlsPort: freePort(t)})
			name := newName()
			stop := r.startProgram(name, "-acme", engine)
			eventually(t, 30*time.Second, "a failed order is on record", func() bool { return r.runDoctor(name)["supervisor"].Level == "warning" })
			stop()
			before := r.ca.validations()
			for n := 1; n <= 3; n++ {
				d := r.runDoctor(name, "-acme", engine, "-renew-test", "-acme-preflight=false")["renew-test"]
				if floor := strings.Contains(d.Text, "too many validations"); d.Level != "failure" || floor != (n > 1) {
					t.Errorf("dry order %d: got %+v", n, d)
				}
			}
			if got := r.ca.validations(); before != 2 || got != 4 {
				t.Errorf("%d validations by the server, and %d in all; want 2 and 4", before, got)
			}
		})
	}
}

// TestDryRunRequiresStateDirectory: without a state directory an authority of one's own
// is not asked.
func TestDryRunRequiresStateDirectory(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{})
	r.dir = filepath.Join(r.dir, "none")
	d := r.runDoctor(newName(), "-renew-test", "-acme-preflight=false")["renew-test"]
	if d.Level != "failure" || !strings.Contains(d.Text, "no state directory yet") || r.ca.orders() != 0 {
		t.Errorf("got %+v and %d orders, want none", d, r.ca.orders())
	}
}

// TestDryRunWithOtherStateDirectory: a server has the ports, but looks for
// challenges elsewhere.
func TestDryRunWithOtherStateDirectory(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{})
	name := newName()
	r.startProgram(name)
	r.waitUntilServed(name)
	r.dir = t.TempDir()
	d := r.runDoctor(name, "-renew-test", "-acme-preflight=false")["renew-test"]
	if d.Level != "failure" || !strings.Contains(d.Text, "-state") || r.ca.orders() != 1 {
		t.Errorf("got %+v and %d orders, want a word on the state directory and no order", d, r.ca.orders())
	}
}

// TestDryRunAsRootKeepsFileOwner: what root's dry order makes belongs to the
// user that the service runs as.
func TestDryRunAsRootKeepsFileOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	const service = 65534
	r := newRig(t, pebbleOptions{})
	if err := os.Chown(r.dir, service, service); err != nil {
		t.Fatal(err)
	}
	if d := r.runDoctor(newName(), "-renew-test", "-acme-preflight=false")["renew-test"]; d.Level != "ok" {
		t.Fatalf("got %+v, want an order that went well", d)
	}
	files := 0
	err := filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		files++
		info, err := d.Info()
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != service {
			t.Errorf("%s belongs to user %d", path, info.Sys().(*syscall.Stat_t).Uid)
		}
		return err
	})
	if err != nil || files < 3 {
		t.Errorf("%d files and directories, %v; want a record", files, err)
	}
}
