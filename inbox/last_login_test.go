package inbox_test

import (
	"context"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"inbox/inbox"
)

// clientConn is a connection of the handler.
type clientConn struct {
	*rig
	ctx context.Context
}

func newClientConn(t *testing.T, s *rig) clientConn {
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	return clientConn{s, inbox.ConnContext(t.Context(), a)}
}

// as sends a request with these credentials and returns the status.
func (c clientConn) as(name, password, method, target string) int {
	r := httptest.NewRequest(method, target, strings.NewReader("")).WithContext(c.ctx)
	r.SetBasicAuth(name, password)
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w.Code
}

// TestRememberedCredentialsAreChecked checks that what a connection remembers replaces no
// comparison with the claim.
func TestRememberedCredentialsAreChecked(t *testing.T) {
	s := newRig(t, nil)
	alice, mallory := newClientConn(t, s), newClientConn(t, s)
	for i, step := range []struct {
		conn                           clientConn
		name, password, method, target string
		want                           int
	}{
		{alice, "bob", "one", "GET", "/inbox?wait=0", 204},
		{alice, "bob", "one", "GET", "/inbox?wait=0", 204},
		{alice, "bob", "two", "GET", "/inbox?wait=0", 401},
		{alice, "bob", "two", "GET", "/inbox?wait=0", 401},
		{alice, "bob", "one", "POST", "/inbox?to=bob", 200},
		{alice, "bo", "bone", "GET", "/inbox?wait=0", 204},
		{mallory, "bob", "two", "GET", "/inbox?wait=0", 401},
		{alice, "bob", "one", "DELETE", "/inbox", 204},
		{mallory, "bob", "two", "GET", "/inbox?wait=0", 204}, // claims the free name
		{alice, "bob", "one", "GET", "/inbox?wait=0", 401},
		{alice, "bob", "one", "POST", "/inbox?to=bob", 401},
		{alice, "bob", "one", "DELETE", "/inbox", 401},
		{mallory, "bob", "two", "DELETE", "/inbox", 204},
		{mallory, "bob", "two", "POST", "/inbox?to=bob", 200}, // a new claim with the same password
	} {
		if got := step.conn.as(step.name, step.password, step.method, step.target); got != step.want {
			t.Errorf("step %d, %s as %s:%s: got %d, want %d", i, step.method, step.name, step.password, got, step.want)
		}
	}
}

// TestHandlersRememberTheirOwn checks that two handlers on a connection, with different
// secrets and a common store, do not use the keys of each other.
func TestHandlersRememberTheirOwn(t *testing.T) {
	first := newRig(t, nil)
	second := newRig(t, func(cfg *inbox.Config, _ *inbox.Limits) {
		cfg.Secret, cfg.Store = []byte("another secret of it"), first.store
	})
	conn := newClientConn(t, first)
	if got := conn.as("bob", "one", "GET", "/inbox?wait=0"); got != 204 {
		t.Fatalf("got %d, want 204", got)
	}
	conn.rig = second
	if got := conn.as("bob", "one", "GET", "/inbox?wait=0"); got != 401 {
		t.Errorf("got %d with another secret, want 401", got)
	}
}
