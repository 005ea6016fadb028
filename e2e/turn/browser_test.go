package turn

import (
	"fmt"
	"net/url"
	"os/exec"
	"sync"
	"testing"
)

func replaceHost(link, host string) string {
	u, err := url.Parse(link)
	if err != nil {
		return link
	}
	u.Host = host
	return u.String()
}

func TestDevBrowsers(t *testing.T) {
	for _, p := range []string{"node", "certutil", "firefox-esr", "chromium"} {
		if _, err := exec.LookPath(p); err != nil {
			skipOrFail(t, err.Error())
		}
	}
	startServer(t, "server")
	all := map[string]*browser{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, kind := range []string{"chromium", "firefox"} {
		for _, host := range []string{"alice", "bob"} {
			wg.Go(func() {
				b, err := world.launch(kind, host)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				all[kind+host] = b
				mu.Unlock()
			})
		}
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	n := 0
	for _, fw := range []string{openFirewall, onlyHTTPS, noClientPath} {
		setFirewall(t, fw)
		for _, k := range [][2]string{{"chromium", "chromium"}, {"firefox", "firefox"}} {
			n++
			c := call{camera: end{all[k[0]+"alice"], fmt.Sprint("camera", n), serverName, &pageOptions{RelayOnly: fw == ""}},
				screen: end{all[k[1]+"bob"], fmt.Sprint("screen", n), serverName, &pageOptions{RelayOnly: fw == ""}}}
			if err := c.connect(); err != nil {
				t.Error(err)
			}
			a, b, err := c.pairs()
			t.Log(fw, k, a, b, err)
			t.Log(c.close())
		}
	}
	for _, b := range all {
		t.Log(b.quit())
	}
}
