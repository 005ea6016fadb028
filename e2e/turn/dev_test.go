package turn

import (
	"testing"
	"time"
)

func TestDevTiming(t *testing.T) {
	startServer(t, "server")
	t0 := time.Now()
	lap := func(s string) { t.Log(s, time.Since(t0)); t0 = time.Now() }
	a, err := world.launch("chromium", "alice")
	if err != nil {
		t.Fatal(err)
	}
	b, err := world.launch("chromium", "bob")
	if err != nil {
		t.Fatal(err)
	}
	lap("launch")
	for i := range 2 {
		wire := startCapture(t, "alice")
		n := string(rune('a' + i))
		opt := &pageOptions{RelayOnly: true, Schemes: []string{[]string{"turn", "turns"}[i]}}
		c := call{camera: end{a, "c" + n, serverName, opt}, screen: end{b, "s" + n, serverName, opt}}
		t.Log(c.screen.open("https://" + c.screen.server + "/receive.html"))
		lap("open")
		link, err := c.screen.link()
		lap("link")
		t.Log(link, err, c.camera.open(link))
		lap("open")
		t.Log(c.camera.do("start", c.camera.page, nil))
		lap("start")
		t.Log(c.picture())
		lap("picture")
		t.Log(c.pairs())
		t.Log(c.close())
		lap("close")
		t.Log(wire.Sent())
	}
	a.quit()
	b.quit()
	lap("quit")
}
