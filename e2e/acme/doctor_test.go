package acme

import (
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// diagnosis is one line of «inbox doctor -json».
type diagnosis struct{ Check, Name, Level, Text, Mend string }

// doctor examines the site of a name with the options of startProgram.
func (r *rig) doctor(name string, more ...string) map[string]diagnosis {
	r.t.Helper()
	path, err := program()
	if err != nil {
		r.t.Fatal(err)
	}
	args := append([]string{"doctor", "-json", "-domain", name, "-email", "me@example.test", "-state", r.dir,
		"-bind", addrOf(r.tlsPort), "-http-bind", addrOf(r.httpPort),
		"-acme-ca", r.ca.url(), "-acme-root", r.ca.roots}, more...)
	out, err := exec.CommandContext(r.t.Context(), path, args...).Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		r.t.Fatalf("the doctor: %v\n%s", err, out)
	}
	var all []diagnosis
	if err := json.Unmarshal(out, &all); err != nil {
		r.t.Fatalf("the doctor said %q: %v", out, err)
	}
	found := map[string]diagnosis{}
	for _, d := range all {
		found[d.Check] = d
	}
	return found
}

// TestDoctorMakesADryOrder: the whole way through, and nothing is kept.
func TestDoctorMakesADryOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{})
	got := r.doctor(newName(), "-renew-test", "-acme-preflight=false")
	if d := got["renew-test"]; d.Level != "ok" || r.ca.orders() != 1 {
		t.Errorf("got %+v and %d orders, want one that went well", d, r.ca.orders())
	}
	if d := got["ca"]; d.Level != "ok" {
		t.Errorf("got %+v, want the authority reached", d)
	}
}

// TestDoctorTellsOfCertificates: those that are stored, and that there are none.
func TestDoctorTellsOfCertificates(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{})
	name := newName()
	if d := r.doctor(name)["certificates"]; !strings.Contains(d.Text, "no certificate of the CA yet") {
		t.Errorf("got %+v, want none", d)
	}
	stop := r.startProgram(name)
	r.eventuallyServes(name)
	stop()
	if d := r.doctor(name)["certificates"]; d.Level != "ok" || !strings.Contains(d.Text, "until") {
		t.Errorf("got %+v, want the certificate that was obtained", d)
	}
}

// TestDoctorTellsOfFailedOrders: the authority cannot reach the site, whose
// server records that; a dry order fails in the same way.
func TestDoctorTellsOfFailedOrders(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{httpPort: freePort(t), tlsPort: freePort(t)})
	name := newName()
	stop := r.startProgram(name)
	eventually(t, 30*time.Second, "a failed order is on record", func() bool { return r.doctor(name)["supervisor"].Level == "warning" })
	stop()
	got := r.doctor(name, "-renew-test", "-acme-preflight=false")
	if d := got["supervisor"]; d.Level != "warning" || d.Name != name || !strings.Contains(d.Mend, "tries again") {
		t.Errorf("got %+v, want the failed order and when the next one is", d)
	}
	if d := got["renew-test"]; d.Level != "failure" {
		t.Errorf("got %+v, want a failure", d)
	}
}
