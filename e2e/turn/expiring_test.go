package turn

import (
	"net"
	"testing"
	"time"

	"inbox/e2e/turnclient"
)

// expiredCredentials makes a call between Chromium and Firefox that goes on after the
// credentials of both have expired: the browsers refresh their allocations, but cannot open
// new ones.
func expiredCredentials(t *testing.T, s *server) {
	began := time.Now()
	browsers := launchAll(t, place{"chromium", "carol"}, place{"firefox", "dave"})
	// A slow machine needs more time until both browsers have a relay.
	left := max(15*time.Second, 2*time.Since(began))
	for ; ; left *= 2 {
		c := newExpiringCall(t, s, browsers, left)
		err := c.connect()
		if time.Now().Before(c.expires) {
			if err != nil {
				t.Fatal(err)
			}
			c.goesOn(t)
			return
		}
		if t.Logf("the credentials expired after %v, before the call was connected: %v", left, err); left > 2*time.Minute {
			t.FailNow()
		}
		if err := c.close(); err != nil {
			t.Fatal(err)
		}
		c.proxy.close()
	}
}

// expiringCall is a call with credentials that expire, through a proxy that shortens
// lifetimes.
type expiringCall struct {
	call
	credentials
	expires time.Time
	proxy   *lifetimeProxy
}

func newExpiringCall(t *testing.T, s *server, browsers map[place]*browser, left time.Duration) *expiringCall {
	t.Helper()
	c, err := s.expiringCredentials(left)
	if err != nil {
		t.Fatal(err)
	}
	p, err := world.startLifetimeProxy("proxy", addrs[otherName][0], 20*time.Second, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	url := "turn:" + addrsOf("proxy")[0].String() + ":3478?transport=udp"
	o := &pageOptions{RelayOnly: true, ICE: map[string]any{
		"iceServers": []iceServer{{URLs: []string{url}, Username: c.Username, Credential: c.Password}},
	}}
	return &expiringCall{credentials: c, expires: c.Expires, proxy: p, call: call{
		camera: end{browsers[place{"chromium", "carol"}], "camera", otherName, o},
		screen: end{browsers[place{"firefox", "dave"}], "screen", otherName, o},
	}}
}

// goesOn checks the call after the credentials have expired.
func (e *expiringCall) goesOn(t *testing.T) {
	t.Helper()
	carol, dave := addrsOf("carol")[0], addrsOf("dave")[0]
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if now := e.proxy.refreshedSince(e.expires); now[carol] && now[dave] {
			break
		}
		if time.Since(began) > 3*browserTimeout {
			t.Fatalf("got refreshes of %v since the credentials expired, want some of both browsers", e.proxy.refreshedSince(e.expires))
		}
	}
	if err := e.resumed(); err != nil {
		t.Error(err)
	}
	if got := allocate(t, "carol", e.credentials); got != 401 {
		t.Errorf("allocate with expired credentials: got error %d, want 401", got)
	}
	if err := e.close(); err != nil {
		t.Error(err)
	}
}

// allocate returns the error code of a new allocation.
func allocate(t *testing.T, host string, c credentials) int {
	t.Helper()
	client := dialTURN(t, host, otherName, c.Username, c.Password)
	defer client.Close()
	return turnclient.CodeOf(client.Allocate())
}

// dialTURN returns a client over UDP on a host.
func dialTURN(t *testing.T, host, server, username, password string) *turnclient.Client {
	t.Helper()
	var conn net.Conn
	err := world.Do(host, func() (err error) {
		conn, err = net.Dial("udp", net.JoinHostPort(addrs[server][0], "3478"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return turnclient.New(conn, username, password)
}
