package acme

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"inbox/e2e"
	"inbox/tlsmgr/redisstorage"
)

// cluster is two programs on machines of their own, as far as their state
// goes, which share a store. The authority only ever sees the first.
type cluster struct {
	*rig
	name     string
	key      string
	redis    *e2e.Server
	programs [2]*e2e.Server
	ports    [2][2]int // of http and TLS
	dirs     [2]string
}

func newCluster(t *testing.T, o pebbleOptions) *cluster {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("redis-server is missing: apt-get install redis-server")
		}
		t.Skip("needs redis-server: apt-get install redis-server")
	}
	c := &cluster{rig: newRig(t, o), name: newName()}
	c.ports = [2][2]int{{c.httpPort, c.tlsPort}, {freePort(t), freePort(t)}}
	c.dirs = [2]string{t.TempDir(), t.TempDir()}
	c.key = filepath.Join(t.TempDir(), "store.key")
	random := make([]byte, 32)
	rand.Read(random)
	writeFile(t, c.key, []byte(base64.StdEncoding.EncodeToString(random)))
	port := freePort(t)
	var err error
	c.redis, err = e2e.StartCommand(addrOf(port), "redis-server", "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.redis.Stop() }) // a test may have stopped it
	return c
}

// start starts one of the two programs.
func (c *cluster) start(i int) {
	c.t.Helper()
	path, err := program()
	if err != nil {
		c.t.Fatal(err)
	}
	log := new(logBuffer)
	c.programs[i], err = e2e.StartWith(exec.Command(path, "-log-level", "debug", "-domain", c.name, "-email", "me@example.test", "-state", c.dirs[i],
		"-bind", addrOf(c.ports[i][1]), "-http-bind", addrOf(c.ports[i][0]), "-public", "",
		"-acme-ca", c.ca.url(), "-acme-root", c.ca.serverRootFile, "-acme-preflight=false",
		"-store", "redis://"+c.redis.Addr, "-store-key-file", c.key), func(line string) { fmt.Fprintln(log, line) })
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = c.programs[i].Stop() // a test may have killed it
		if c.t.Failed() {
			c.t.Logf("log of program %d:\n%s", i+1, log)
		}
	})
}

// servedCert is what one of the programs shows, or nil.
func (c *cluster) servedCert(i int) *x509.Certificate {
	leaf, err := (&testServer{t: c.t, rig: &rig{tlsPort: c.ports[i][1]}, host: "127.0.0.1"}).servedCert(c.name)
	if err != nil {
		return nil
	}
	return leaf
}

func (c *cluster) waitForBoth(timeout time.Duration, what string, is func(*x509.Certificate) bool) {
	c.t.Helper()
	for i := range c.programs {
		eventually(c.t, timeout, fmt.Sprintf("program %d shows %s", i+1, what), func() bool {
			leaf := c.servedCert(i)
			return leaf != nil && is(leaf)
		})
	}
}

// sessionResumed connects to one of the programs and tells whether it took up a session.
func (c *cluster) sessionResumed(i int, sessions tls.ClientSessionCache) bool {
	c.t.Helper()
	conn, err := tls.Dial("tcp", addrOf(c.ports[i][1]), &tls.Config{ServerName: c.name, InsecureSkipVerify: true, ClientSessionCache: sessions,
		NextProtos: []string{"http/1.1"}})
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", c.name)
	_, _ = io.Copy(io.Discard, conn) // the ticket comes with the answer
	return conn.ConnectionState().DidResume
}

// The first node does not reach the authority, dies while it asks again, and
// still does not hinder the second, for which it answers the challenge. There is one order; both serve what
// it brought, take up each other's sessions, and serve on without the store.
func TestNodesShareAStore(t *testing.T) {
	t.Parallel()
	c := newCluster(t, pebbleOptions{})
	c.ca.mode.Store(503)
	c.start(0)
	eventually(t, waitTimeout, "the first node has asked the authority in vain", func() bool { return c.ca.requestCount("dir") > 0 })
	c.ca.mode.Store(modeHang)
	before := c.ca.requestCount("dir")
	eventually(t, waitTimeout, "the first node asks again", func() bool { return c.ca.requestCount("dir") > before })
	_ = c.programs[0].Signal(syscall.SIGSTOP)
	c.ca.mode.Store(modeUp)
	c.start(1)
	eventually(t, 2*time.Minute, "the second node orders, at the latest when the lease of the first has run out", func() bool { return c.ca.orders() > 0 })
	_ = c.programs[0].Signal(syscall.SIGCONT)
	var serial string
	c.waitForBoth(waitTimeout, "the same certificate", func(leaf *x509.Certificate) bool {
		if serial == "" {
			serial = leaf.SerialNumber.String()
		}
		return leaf.SerialNumber.String() == serial
	})
	if got := c.ca.orders(); got != 1 {
		t.Errorf("%d orders, want 1", got)
	}
	found := c.runDoctor(c.name, "-state", t.TempDir(), "-store", "redis://"+c.redis.Addr, "-store-key-file", c.key)
	if d := found["certificates"]; d.Level != "ok" || !strings.Contains(d.Text, "until") {
		t.Errorf("the doctor says %+v of the certificate in the store", d)
	}
	sessions := tls.NewLRUClientSessionCache(1)
	c.sessionResumed(0, sessions)
	eventually(t, 2*time.Minute, "the second node takes up a session of the first", func() bool { return c.sessionResumed(1, sessions) })
	if err := c.redis.Stop(); err != nil {
		t.Log(err)
	}
	time.Sleep(time.Second)
	c.waitForBoth(waitTimeout, "its certificate without the store", func(leaf *x509.Certificate) bool { return leaf.SerialNumber.String() == serial })
}

// One of two renews, both show it within seconds; when one dies, the other
// goes on alone.
func TestNodesRenewOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, pebbleOptions{validity: 24 * time.Second})
	c.start(0)
	c.start(1)
	seen := map[string]bool{}
	isNew := func(leaf *x509.Certificate) bool { return !seen[leaf.SerialNumber.String()] }
	for range 2 {
		var now string
		c.waitForBoth(2*waitTimeout, "a new certificate", func(leaf *x509.Certificate) bool {
			if now == "" && isNew(leaf) {
				now = leaf.SerialNumber.String()
			}
			return leaf.SerialNumber.String() == now
		})
		seen[now] = true
		if got := c.ca.orders(); got > len(seen)+1 {
			t.Errorf("%d orders for %d certificates", got, len(seen))
		}
	}
	_ = c.programs[1].Signal(syscall.SIGKILL)
	eventually(t, 2*waitTimeout, "the node that is left renews", func() bool {
		leaf := c.servedCert(0)
		return leaf != nil && isNew(leaf)
	})
}

// A node is paused in the middle of its order, for longer than its lock lasts.
// Another orders when a person asks for it, and what the first does when it wakes
// changes nothing of that.
func TestPausedNodeChangesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, pebbleOptions{})
	unblock := c.ca.blockFinalize() // else it may be over before the node is paused
	c.start(1)
	eventually(t, waitTimeout, "the node orders", func() bool { return c.ca.orders() > 0 })
	_ = c.programs[1].Signal(syscall.SIGSTOP)
	unblock()
	time.Sleep(redisstorage.LeaseDuration + time.Second)
	c.start(0)
	eventually(t, waitTimeout, "the other node answers, and hears hangups", func() bool {
		_, err := tls.Dial("tcp", addrOf(c.ports[0][1]), &tls.Config{ServerName: c.name, InsecureSkipVerify: true})
		return err != nil && strings.Contains(err.Error(), "unrecognized name")
	})
	eventually(t, waitTimeout, "the other node orders", func() bool {
		_ = c.programs[0].Signal(syscall.SIGHUP)
		return c.ca.orders() > 1
	})
	var serial string
	eventually(t, waitTimeout, "the other node shows its certificate", func() bool {
		leaf := c.servedCert(0)
		if leaf != nil {
			serial = leaf.SerialNumber.String()
		}
		return leaf != nil
	})
	_ = c.programs[1].Signal(syscall.SIGCONT)
	for range 5 {
		time.Sleep(time.Second)
		c.waitForBoth(waitTimeout, "that certificate", func(leaf *x509.Certificate) bool { return leaf.SerialNumber.String() == serial })
	}
	if got := c.ca.orders(); got != 2 {
		t.Errorf("%d orders, want 2", got)
	}
}
