package turn

import (
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"
)

// reason is what a page says when its call does not connect.
type reason struct {
	Title string `json:"title"`
	Hint  string `json:"hint"`
}

// reasonScene is a call between alice's camera and bob's screen that cannot connect.
type reasonScene struct {
	name           string
	firewall       string
	server         string
	schemes        []string // of the servers that both ends know; all, if empty
	camera, screen string   // browsers
	// What the pages say: a part of the title, and a part of what was tried.
	cameraTitle, cameraTried string
	screenTitle, screenTried string
}

var reasonScenes = []reasonScene{
	{
		name: "no path, no relay", firewall: noClientPath, server: plainName, camera: "chromium", screen: "firefox",
		cameraTitle: "These networks do not connect directly", cameraTried: "does not offer STUN or a relay (TURN)",
		screenTitle: "These networks do not connect directly", screenTried: "does not offer STUN or a relay (TURN)",
	},
	{
		name: "no UDP, no TURN over TLS", firewall: onlyHTTPS, server: serverName, schemes: []string{"stun", "turn"},
		camera: "firefox", screen: "chromium",
		cameraTitle: "This network blocks the call", cameraTried: "STUN (no answer), relay over UDP (no answer)",
		screenTitle: "This network blocks the call", screenTried: "STUN (no answer), relay over UDP (no answer)",
	},
	{
		name: "one network without UDP", firewall: noUDPForBob, server: serverName, schemes: []string{"stun", "turn"},
		camera: "chromium", screen: "chromium",
		cameraTitle: "The other network blocks the call", cameraTried: "STUN (answers), relay over UDP (works)",
		screenTitle: "This network blocks the call", screenTried: "STUN (no answer), relay over UDP (no answer)",
	},
}

// run checks that both pages give a reason. It logs when, for scripts/soak.
func (s reasonScene) run(t *testing.T, browsers map[place]*browser) {
	setFirewall(t, s.firewall)
	wantNoPath(t, "alice", addrsOf("bob")[0], 80)
	o := &pageOptions{Schemes: s.schemes}
	c := &call{
		camera: end{browsers[place{s.camera, "alice"}], "camera", s.server, o},
		screen: end{browsers[place{s.screen, "bob"}], "screen", s.server, o},
	}
	if err := c.begin(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var all sync.WaitGroup
	all.Go(func() { wantReason(t, c.camera, s.cameraTitle, s.cameraTried, began) })
	all.Go(func() { wantReason(t, c.screen, s.screenTitle, s.screenTried, began) })
	all.Wait()
	if err := c.close(); err != nil {
		t.Error(err)
	}
}

// wantReason waits for the reason of a page. The first one can still name a probe that
// runs on a busy machine.
func wantReason(t *testing.T, e end, title, tried string, began time.Time) {
	var got reason
	err := e.do("reason", e.page, &got)
	t.Logf("%s on %s: reason %.1f s after the start: %q", e.page, e.kind, time.Since(began).Seconds(), got.Title)
	for deadline := time.Now().Add(browserTimeout); err == nil && time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if strings.Contains(got.Title, title) && strings.Contains(got.Hint, tried) {
			return
		}
		err = e.do("reason", e.page, &got)
	}
	t.Errorf("%s on %s: got the reason %+v, %v, want %q and %q", e.page, e.kind, got, err, title, tried)
}

// selfTestScene is a run of the self-test page of alice.
type selfTestScene struct {
	name     string
	firewall string
	server   string
	browser  string
	want     map[string]string // states by check, besides those of the server itself
}

var selfTestScenes = []selfTestScene{
	{"Chromium", openFirewall, serverName, "chromium", map[string]string{"STUN": "ok", "TURN over UDP": "ok", "TURN over TLS": "ok"}},
	{"Firefox", openFirewall, serverName, "firefox", map[string]string{"STUN": "ok", "TURN over UDP": "ok", "TURN over TLS": "ok"}},
	{"Chromium, only TCP 443", onlyHTTPS, serverName, "chromium", map[string]string{"STUN": "warning", "TURN over UDP": "warning", "TURN over TLS": "ok"}},
	{"Firefox, only TCP 443", onlyHTTPS, serverName, "firefox", map[string]string{"STUN": "warning", "TURN over UDP": "warning", "TURN over TLS": "ok"}},
	{"without a relay", openFirewall, plainName, "firefox", map[string]string{"STUN": "warning", "TURN over UDP": "failed", "TURN over TLS": "failed"}},
}

func (s selfTestScene) run(t *testing.T, browsers map[place]*browser) {
	setFirewall(t, s.firewall)
	e := end{browsers[place{s.browser, "alice"}], "test", s.server, nil}
	got := map[string]string{}
	err := e.open("https://" + s.server + "/test.html")
	if err == nil {
		err = e.do("selfTest", e.page, &got)
	}
	err = errors.Join(err, e.do("close", e.page, nil))
	want := map[string]string{"Browser": "ok", "Server": "ok", "Mailbox": "ok", "WebSocket": "ok", "Event stream": "ok"}
	maps.Copy(want, s.want)
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}
