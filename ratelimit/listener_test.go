package ratelimit

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"inbox/internal/netconn"
)

// testListener is a listener with its limiter.
type testListener struct {
	net.Listener
	*ConnLimiter
}

// listen starts a listener and returns its accepted connections in a channel.
func listen(t *testing.T, limits ConnLimits, clientIP *ClientIP) (testListener, <-chan net.Conn) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if clientIP == nil {
		clientIP = &ClientIP{}
	}
	limiter := NewConnLimiter(limits, clientIP)
	l := testListener{limiter.Listener(inner), limiter}
	t.Cleanup(func() { l.Close() })
	accepted := make(chan net.Conn, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	return l, accepted
}

// dialFrom connects from one of the loopback addresses.
func dialFrom(t *testing.T, l net.Listener, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// wantRefused checks whether the server closes the connection. A loaded machine can take
// long to close it.
func wantRefused(t *testing.T, c net.Conn, want bool, what string) {
	t.Helper()
	timeout := 50 * time.Millisecond
	if want {
		timeout = 20 * time.Second
	}
	c.SetReadDeadline(time.Now().Add(timeout))
	_, err := c.Read(make([]byte, 1))
	if got := !errors.Is(err, os.ErrDeadlineExceeded); got != want {
		t.Errorf("%s: got refused %v, want %v", what, got, want)
	}
}

func TestListenerRefusesByClosing(t *testing.T) {
	l, accepted := listen(t, ConnLimits{MaxPerAddr: 2}, nil)
	first, second := dialFrom(t, l, "127.0.0.2"), dialFrom(t, l, "127.0.0.2")
	served := <-accepted
	<-accepted
	third := dialFrom(t, l, "127.0.0.2")
	other := dialFrom(t, l, "127.0.0.3")
	<-accepted // the other's: Accept continued
	wantRefused(t, third, true, "third of the address")
	for _, c := range []net.Conn{first, second, other} {
		wantRefused(t, c, false, "within the limit")
	}
	served.Close()
	served.Close() // releases its slot once
	free := dialFrom(t, l, "127.0.0.2")
	<-accepted
	wantRefused(t, free, false, "after a slot was released")
	wantRefused(t, dialFrom(t, l, "127.0.0.2"), true, "after one connection was closed twice")
	if s := l.Stats(); s.Open != 3 || s.Accepted != 4 || s.RefusedAddr != 2 {
		t.Errorf("got %+v, want 3 open, 4 accepted, 2 refused", s)
	}
}

func TestListenerLimitsTotal(t *testing.T) {
	l, accepted := listen(t, ConnLimits{Max: 2}, nil)
	dialFrom(t, l, "127.0.0.2")
	c := <-accepted
	dialFrom(t, l, "127.0.0.3")
	<-accepted
	wantRefused(t, dialFrom(t, l, "127.0.0.4"), true, "third connection")
	c.Close()
	free := dialFrom(t, l, "127.0.0.4")
	<-accepted
	wantRefused(t, free, false, "after a slot was released")
}

// A connection that no longer carries HTTP leaves most of its memory to others.
func TestListenerLimitsMemory(t *testing.T) {
	l, accepted := listen(t, ConnLimits{MaxBytes: 250, BytesEach: 100, HijackedBytes: 10}, nil)
	wantBytes := func(what string, want int64) {
		t.Helper()
		if got := l.Stats(); got.Bytes != want {
			t.Errorf("%s: got %d bytes, want %d", what, got.Bytes, want)
		}
	}
	var served [2]net.Conn
	for i := range served {
		dialFrom(t, l, "127.0.0.2")
		served[i] = <-accepted
	}
	wantBytes("two connections", 200)
	wantRefused(t, dialFrom(t, l, "127.0.0.3"), true, "beyond the memory")
	if got := l.Stats(); got.Open != 2 || got.RefusedTotal != 1 {
		t.Errorf("got %+v, want 2 open connections and 1 refused", got)
	}
	netconn.Hijacked(served[0])
	netconn.Hijacked(served[0]) // has no further effect
	wantBytes("one is hijacked", 110)
	wantRefused(t, dialFrom(t, l, "127.0.0.3"), false, "within the memory again")
	(<-accepted).Close()
	served[0].Close()
	netconn.Hijacked(served[0]) // too late
	wantBytes("a hijacked one is closed", 100)
	served[1].Close()
	wantBytes("all are closed", 0)
}

func TestListenerLimitsNewConnections(t *testing.T) {
	l, accepted := listen(t, ConnLimits{Rate: Budget{PerSecond: 0.001, Burst: 3}}, nil)
	for i := range 6 {
		c := dialFrom(t, l, "127.0.0.2")
		if i < 3 {
			<-accepted
		}
		wantRefused(t, c, i >= 3, fmt.Sprint("connection ", i))
	}
	dialFrom(t, l, "127.0.0.3")
	<-accepted
	if s := l.Stats(); s.Open != 4 || s.RefusedRate != 3 {
		t.Errorf("got %+v, want 4 open, 3 refused", s)
	}
}

// In a dry run only the total is a limit.
func TestProxiesAndDryRunsAreNotRefused(t *testing.T) {
	limits := ConnLimits{MaxPerAddr: 1, Rate: Budget{PerSecond: 0.001, Burst: 1}}
	trusted := &ClientIP{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}}
	dry := limits
	dry.DryRun, dry.Max = true, 4
	for name, row := range map[string]struct {
		limits  ConnLimits
		clients *ClientIP
	}{"proxy": {limits, trusted}, "dry run": {dry, nil}} {
		l, accepted := listen(t, row.limits, row.clients)
		for range 4 {
			c := dialFrom(t, l, "127.0.0.2")
			<-accepted
			wantRefused(t, c, false, name)
		}
		if row.limits.DryRun {
			wantRefused(t, dialFrom(t, l, "127.0.0.2"), true, "over the total")
		}
		if s := l.Stats(); row.limits.DryRun != (s.RefusedAddr > 0 && s.RefusedRate > 0 && s.RefusedTotal > 0) {
			t.Errorf("%s: got %+v", name, s)
		}
	}
}

func TestRefusedConnectionsAreTarpitted(t *testing.T) {
	const delay = 2 * time.Second
	l, accepted := listen(t, ConnLimits{MaxPerAddr: 1, Tarpit: delay, MaxTarpitted: 2}, nil)
	dialFrom(t, l, "127.0.0.2")
	<-accepted
	for range 2 { // the slots are free again afterwards
		began := time.Now()
		tarpitted := []net.Conn{dialFrom(t, l, "127.0.0.2"), dialFrom(t, l, "127.0.0.2")}
		for range 3 { // further ones take no slot
			wantRefused(t, dialFrom(t, l, "127.0.0.2"), true, "beyond MaxTarpitted")
		}
		if took := time.Since(began); took >= delay {
			t.Errorf("connections beyond MaxTarpitted were closed after %v, want at once", took)
		}
		for _, c := range tarpitted {
			wantRefused(t, c, true, "tarpitted")
		}
		if took := time.Since(began); took < delay {
			t.Errorf("closed after %v, want %v", took, delay)
		}
		for l.tarpitted.Load() > 0 && time.Since(began) < 10*delay {
			time.Sleep(time.Millisecond) // the slot is released right after the close
		}
	}
}

func TestUnixSocketPeersCountOnlyInTotal(t *testing.T) {
	inner, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	l := NewConnLimiter(ConnLimits{MaxPerAddr: 1, Max: 3, Rate: Budget{PerSecond: 0.01, Burst: 1}}, &ClientIP{}).Listener(inner)
	defer l.Close()
	go http.Serve(l, http.NotFoundHandler())
	for i := range 4 {
		c, err := net.Dial("unix", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		wantRefused(t, c, i == 3, fmt.Sprint("connection ", i))
	}
}

func TestAcceptedConnectionUnwraps(t *testing.T) {
	l, accepted := listen(t, ConnLimits{}, nil)
	client := dialFrom(t, l, "127.0.0.2")
	c, ok := netconn.Find[*net.TCPConn](<-accepted)
	if !ok {
		t.Fatal("no TCP connection under the accepted one")
	}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(uintptr) {}); err != nil {
		t.Error(err)
	}
	go io.WriteString(client, "x")
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

func TestListenerDelaysRelease(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	limiter := NewConnLimiter(ConnLimits{}, &ClientIP{})
	l := limiter.Listener(inner)
	accept := func() net.Conn {
		t.Helper()
		client, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const delay = 50 * time.Millisecond
	delayed, other := accept(), accept()
	delayed.(interface{ DelayRelease(time.Duration) }).DelayRelease(delay)
	began := time.Now()
	delayed.Close()
	other.Close()
	if open := limiter.Stats().Open; open != 1 && time.Since(began) < delay {
		t.Errorf("%d connections count after both were closed, want 1", open)
	}
	for limiter.Stats().Open > 0 {
		if time.Since(began) > 5*time.Second {
			t.Fatalf("%d connections still count after %v", limiter.Stats().Open, time.Since(began))
		}
		time.Sleep(time.Millisecond)
	}
}
