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

// doctorFinding is one result of inbox doctor -json.
type doctorFinding struct{ Check, Name, Level, Text, Fix string }

// runDoctor runs inbox doctor with the options of startProgram and returns the results by
// check.
func (r *rig) runDoctor(name string, extraArgs ...string) map[string]doctorFinding {
	r.t.Helper()
	path, err := program()
	if err != nil {
		r.t.Fatal(err)
	}
	args := append(append([]string{"doctor", "-json"}, r.options(name)...), extraArgs...)
	out, err := exec.CommandContext(r.t.Context(), path, args...).Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		r.t.Fatalf("inbox doctor: %v\n%s", err, out)
	}
	var all []doctorFinding
	if err := json.Unmarshal(out, &all); err != nil {
		r.t.Fatalf("inbox doctor printed %q: %v", out, err)
	}
	found := map[string]doctorFinding{}
	for _, d := range all {
		found[d.Check] = d
	}
	return found
}

// A dry run makes a complete order.
func TestDoctorDryRun(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{})
	got := r.runDoctor(newName(), "-renew-test", "-acme-preflight=false")
	if d := got["renew-test"]; d.Level != "ok" || r.ca.orders() != 1 {
		t.Errorf("got %+v and %d orders, want one that succeeds", d, r.ca.orders())
	}
	if d := got["ca"]; d.Level != "ok" {
		t.Errorf("got %+v, want a reachable CA", d)
	}
}

// The doctor reports the stored certificate, or that no certificate is stored.
func TestDoctorReportsCertificates(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{}), newName()
	if d := r.runDoctor(name)["certificates"]; !strings.Contains(d.Text, "No certificate from the CA yet") {
		t.Errorf("got %+v, want no certificate", d)
	}
	stop := r.startProgram(name)
	r.waitUntilServed(name)
	stop()
	if d := r.runDoctor(name)["certificates"]; d.Level != "ok" || !strings.Contains(d.Text, "until") {
		t.Errorf("got %+v, want the obtained certificate", d)
	}
}

// The CA cannot reach the server. The doctor reports the failed order of the server, and
// its dry run fails in the same way.
func TestDoctorReportsFailedOrders(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{httpPort: freePort(t), tlsPort: freePort(t)}), newName()
	stop := r.startProgram(name)
	eventually(t, 30*time.Second, "the doctor reports a failed order", func() bool { return r.runDoctor(name)["orders"].Level == "warning" })
	stop()
	got := r.runDoctor(name, "-renew-test", "-acme-preflight=false")
	if d := got["orders"]; d.Level != "warning" || d.Name != name || !strings.Contains(d.Fix, "retries at") {
		t.Errorf("got %+v, want the failed order and the time of the next one", d)
	}
	if d := got["renew-test"]; d.Level != "failure" {
		t.Errorf("got %+v, want a failure", d)
	}
}

// listStateDir lists the files below the state directory with size and modification time,
// without the directories.
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

// The doctor changes neither an empty state directory nor one with certificates.
func TestDoctorChangesNothing(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{}), newName()
	r.runDoctor(name)
	if got := r.listStateDir(); got != "" {
		t.Errorf("got files in an empty state directory, want none:\n%s", got)
	}
	stop := r.startProgram(name)
	r.waitUntilServed(name)
	stop()
	before := r.listStateDir()
	r.runDoctor(name)
	if got := r.listStateDir(); got != before {
		t.Errorf("got state directory\n%swant it unchanged:\n%s", got, before)
	}
}

// A running server answers the challenges of a dry run, and does not load its certificate.
func TestDoctorDryRunWhileServerRuns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, engine, challenge string }{
		{"certmagic tls-alpn-01", "certmagic", "tls-alpn-01"},
		{"certmagic http-01", "certmagic", "http-01"},
		{"autocert", "autocert", "both"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, name := newRig(t, pebbleOptions{}), newName()
			flags := []string{"-acme", tt.engine, "-acme-challenge", tt.challenge}
			r.startProgram(name, flags...)
			r.waitUntilServed(name)
			before := r.servedSerial(name)
			got := r.runDoctor(name, append(flags, "-renew-test", "-acme-preflight=false")...)
			if d := got["renew-test"]; d.Level != "ok" || r.ca.orders() != 2 {
				t.Errorf("got %+v and %d orders, want a successful one after that of the server", d, r.ca.orders())
			}
			time.Sleep(2 * time.Second) // time for the server to load it
			if r.servedSerial(name) != before {
				t.Error("the server loaded the certificate of the dry run")
			}
			if left := r.challengeFiles(); len(left) > 0 {
				t.Errorf("got challenge files %v after the dry run, want none", left)
			}
		})
	}
}

// servedSerial returns the serial number of the certificate that the program serves.
func (r *rig) servedSerial(name string) string {
	r.t.Helper()
	leaf, err := (&testServer{t: r.t, rig: r, host: "127.0.0.1"}).servedCert(name)
	if err != nil {
		r.t.Fatal(err)
	}
	return leaf.SerialNumber.String()
}

// challengeFiles returns the files with challenge responses in the state directory.
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

// At a CA without staging environment, failed validations of dry runs count together with
// those of the server. The fifth validation is not made.
func TestDryRunValidationsAreCounted(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		r, name := newRig(t, pebbleOptions{httpPort: freePort(t), tlsPort: freePort(t)}), newName()
		stop := r.startProgram(name, "-acme", engine)
		eventually(t, 30*time.Second, "the doctor reports a failed order", func() bool { return r.runDoctor(name)["orders"].Level == "warning" })
		stop()
		before := r.ca.validations()
		for n := 1; n <= 3; n++ {
			d := r.runDoctor(name, "-acme", engine, "-renew-test", "-acme-preflight=false")["renew-test"]
			if floor := strings.Contains(d.Text, "too many validations"); d.Level != "failure" || floor != (n > 1) {
				t.Errorf("dry run %d: got %+v, want a failure, from the second on because of too many validations", n, d)
			}
		}
		if got := r.ca.validations(); before != 2 || got != 4 {
			t.Errorf("got %d validations of the server and %d in total, want 2 and 4", before, got)
		}
	})
}

// At a CA without staging environment, a dry run without state directory makes no order.
func TestDryRunRequiresStateDirectory(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{})
	r.dir = filepath.Join(r.dir, "none")
	d := r.runDoctor(newName(), "-renew-test", "-acme-preflight=false")["renew-test"]
	if d.Level != "failure" || !strings.Contains(d.Text, "no state directory yet") || r.ca.orders() != 0 {
		t.Errorf("got %+v and %d orders, want a failure without an order", d, r.ca.orders())
	}
}

// A dry run fails if the running server uses another state directory, where it does not
// find the challenges.
func TestDryRunWithOtherStateDirectory(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{}), newName()
	r.startProgram(name)
	r.waitUntilServed(name)
	r.dir = t.TempDir()
	d := r.runDoctor(name, "-renew-test", "-acme-preflight=false")["renew-test"]
	if d.Level != "failure" || !strings.Contains(d.Text, "-state") || r.ca.orders() != 1 {
		t.Errorf("got %+v and %d orders, want a failure that names -state, and no second order", d, r.ca.orders())
	}
}

// Files that a dry run creates as root belong to the user of the service.
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
		t.Fatalf("got %+v, want a successful order", d)
	}
	files := 0
	err := filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		files++
		info, err := d.Info()
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != service {
			t.Errorf("%s: got owner %d, want %d", path, info.Sys().(*syscall.Stat_t).Uid, service)
		}
		return err
	})
	if err != nil || files < 3 {
		t.Errorf("got %d files and directories, %v; want a schedule in its directories", files, err)
	}
}

// The doctor asks the CA about the account.
func TestDoctorReportsDeactivatedAccount(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		r, name := newRig(t, pebbleOptions{}), newName()
		stop := r.startProgram(name, "-acme", engine)
		r.waitUntilServed(name)
		stop()
		if d := r.runDoctor(name, "-acme", engine)["account"]; d.Level != "ok" || !strings.Contains(d.Text, "valid at the CA") {
			t.Errorf("got %+v, want a valid account", d)
		}
		before := r.listStateDir()
		if err := r.accountClient(engine).DeactivateReg(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := r.runDoctor(name, "-acme", engine)["account"]; d.Level != "warning" || !strings.Contains(d.Text, "deactivated") {
			t.Errorf("got %+v, want a deactivated account", d)
		}
		if after := r.listStateDir(); after != before {
			t.Errorf("the doctor changed the state directory from\n%s\nto\n%s", before, after)
		}
	})
}
