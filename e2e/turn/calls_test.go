package turn

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// place is where a browser runs.
type place struct{ kind, host string }

// launchAll starts browsers and closes them at the end of the test.
func launchAll(t *testing.T, places ...place) map[place]*browser {
	t.Helper()
	for _, program := range []string{"node", "certutil"} {
		if _, err := exec.LookPath(program); err != nil {
			skipOrFail(t, "requires "+program+": run scripts/test install")
		}
	}
	var mu sync.Mutex
	browsers := map[place]*browser{}
	var wg sync.WaitGroup
	for _, p := range places {
		wg.Go(func() {
			b, err := world.launch(p.kind, p.host)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() {
				if err := b.quit(); err != nil {
					t.Error(err)
				}
			})
			mu.Lock()
			defer mu.Unlock()
			browsers[p] = b
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return browsers
}

// scene is a call between alice's camera and bob's screen. Every scene uses the names of a
// server, and a certificate of a CA that the browsers trust.
type scene struct {
	name           string
	firewall       string
	camera, screen string // browsers
	// The servers that both ends know, and the schemes of their relays: all, if empty.
	cameraServer, screenServer string
	schemes                    []string
	// relayOnly sets the policy of the page. Otherwise it is the default one.
	relayOnly bool
	// families of alice and bob; all, if nil.
	alice, bob func(netip.Addr) bool
	// protocol is that of both relays; empty is any.
	protocol string
}

var scenes = []scene{
	{name: "relay only, over UDP", camera: "chromium", screen: "firefox", schemes: []string{"turn"}, relayOnly: true, protocol: "udp"},
	{name: "relay only, over TLS", camera: "firefox", screen: "chromium", schemes: []string{"turns"}, relayOnly: true, protocol: "tls"},
	{name: "only TCP 443, Chromium", firewall: onlyHTTPS, camera: "chromium", screen: "chromium", protocol: "tls"},
	{name: "only TCP 443, Firefox", firewall: onlyHTTPS, camera: "firefox", screen: "firefox", protocol: "tls"},
	{name: "no path between the clients", firewall: noClientPath, camera: "firefox", screen: "chromium"},
	{name: "address translation", firewall: noClientPath, camera: "chromium", screen: "firefox", cameraServer: natName, screenServer: natName},
	{name: "two addresses, relay only", camera: "chromium", screen: "firefox", schemes: []string{"turn"}, screenServer: secondName, relayOnly: true, protocol: "udp"},
	{name: "IPv4 and IPv6, Chromium", camera: "chromium", screen: "chromium", alice: onlyIPv4, bob: onlyIPv6},
	{name: "IPv6 and IPv4, Firefox", camera: "firefox", screen: "firefox", alice: onlyIPv6, bob: onlyIPv4},
}

// TestCalls connects real browsers with real video: each scene checks that the screen decodes
// new frames, and that they pass through the relay.
func TestCalls(t *testing.T) {
	t.Parallel()
	server := startServer(t, "server")
	startServer(t, "natted")
	browsers := launchAll(t, place{"chromium", "alice"}, place{"chromium", "bob"}, place{"firefox", "alice"}, place{"firefox", "bob"})
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) { s.run(t, browsers) })
	}
	t.Run("restarted server", func(t *testing.T) { restartedServer(t, server, browsers) })
	startServer(t, "plain", "-turn", "off")
	for _, s := range reasonScenes {
		t.Run("reason/"+s.name, func(t *testing.T) { s.run(t, browsers) })
	}
	for _, s := range selfTestScenes {
		t.Run("self-test/"+s.name, func(t *testing.T) { s.run(t, browsers) })
	}
}

func (s scene) run(t *testing.T, browsers map[place]*browser) {
	setFirewall(t, s.firewall)
	if s.firewall != openFirewall {
		wantNoPath(t, "alice", addrsOf("bob")[0], 80)
	}
	if s.firewall == onlyHTTPS {
		wantNoPath(t, "alice", addrsOf("server")[0], 80)
	}
	if s.cameraServer == natName {
		wantNoPath(t, "natted", netip.MustParseAddr(natAddr), 443) // hairpin
	}
	setFamilies(t, "alice", s.alice)
	setFamilies(t, "bob", s.bob)
	o := &pageOptions{RelayOnly: s.relayOnly, Schemes: s.schemes}
	c := &call{
		camera: end{browsers[place{s.camera, "alice"}], "camera", orServer(s.cameraServer), o},
		screen: end{browsers[place{s.screen, "bob"}], "screen", orServer(s.screenServer), o},
	}
	if err := c.connect(); err != nil {
		t.Fatal(err)
	}
	camera, screen, err := c.pairs()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("candidates of the camera: %+v, of the screen: %+v", camera, screen)
	for name, p := range map[string]pair{"camera": camera, "screen": screen} {
		if !p.relayed() || s.protocol != "" && p.Protocol != s.protocol {
			t.Errorf("%s: got the pair %+v, want a relay over %s", name, p, s.protocol)
		}
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
}

// wantNoPath checks that packets of a host do not arrive at an address: neither a connection
// nor a refusal comes back.
func wantNoPath(t *testing.T, host string, to netip.Addr, port uint16) {
	t.Helper()
	var c net.Conn
	err := world.Do(host, func() (err error) {
		c, err = net.DialTimeout("tcp", netip.AddrPortFrom(to, port).String(), 300*time.Millisecond)
		return err
	})
	if err == nil {
		c.Close()
	}
	if err == nil || errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connect from %s to %v: got %v, want no answer", host, to, err)
	}
}

func orServer(name string) string {
	if name == "" {
		return serverName
	}
	return name
}

// setFamilies restricts the addresses of a host until the end of the test.
func setFamilies(t *testing.T, host string, keep func(netip.Addr) bool) {
	t.Helper()
	if keep == nil {
		return
	}
	if err := world.setFamilies(host, keep); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := world.setFamilies(host, bothFamilies); err != nil {
			t.Error(err)
		}
	})
}

// restartedServer restarts the server during two calls through its relay. Both show their
// picture again, without any action by a user.
func restartedServer(t *testing.T, s *server, browsers map[place]*browser) {
	calls := map[string]*call{}
	for kind, scheme := range map[string]string{"chromium": "turns", "firefox": "turn"} {
		o := &pageOptions{RelayOnly: true, Schemes: []string{scheme}, AllowErrors: true}
		calls[kind+" with "+scheme] = &call{
			camera: end{browsers[place{kind, "alice"}], "camera", serverName, o},
			screen: end{browsers[place{kind, "bob"}], "screen", serverName, o},
		}
	}
	for name, c := range calls {
		if err := c.connect(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	began := time.Now()
	if err := errors.Join(s.Stop(), s.start()); err != nil {
		t.Fatal(err)
	}
	down := time.Since(began)
	var all sync.WaitGroup
	for name, c := range calls {
		all.Go(func() {
			if err := c.resumed(); err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			t.Logf("%s: picture again %.1f s after the stop, %.1f s after the start of the server", name,
				time.Since(began).Seconds(), (time.Since(began) - down).Seconds())
		})
	}
	all.Wait()
	for name, c := range calls {
		if err := c.close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
