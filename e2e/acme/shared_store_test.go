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
	"inbox/tlsmgr/storage/redis"
)

// cluster is two nodes that share a store but no state directory. The CA connects only
// to the first node.
type cluster struct {
	*rig
	name     string
	key      string
	redis    *e2e.Server
	programs [2]*e2e.Server
	ports    [2][2]int // HTTP and TLS
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
	t.Cleanup(func() { _ = c.redis.Stop() }) // fails if the test has stopped it already
	return c
}

// start starts one of the two nodes.
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
		_ = c.programs[i].Stop() // fails if the test has killed it already
		if c.t.Failed() {
			c.t.Logf("log of node %d:\n%s", i+1, log)
		}
	})
}

// servedCert returns the certificate that a node serves, or nil.
func (c *cluster) servedCert(i int) *x509.Certificate {
	leaf, err := (&testServer{t: c.t, rig: &rig{tlsPort: c.ports[i][1]}, host: "127.0.0.1"}).servedCert(c.name)
	if err != nil {
		return nil
	}
	return leaf
}

// waitForBoth waits until is accepts the certificate of each node.
func (c *cluster) waitForBoth(timeout time.Duration, what string, is func(*x509.Certificate) bool) {
	c.t.Helper()
	for i := range c.programs {
		eventually(c.t, timeout, fmt.Sprintf("node %d serves %s", i+1, what), func() bool {
			leaf := c.servedCert(i)
			return leaf != nil && is(leaf)
		})
	}
}

// sessionResumed connects to a node and reports whether the node resumed a session.
func (c *cluster) sessionResumed(i int, sessions tls.ClientSessionCache) bool {
	c.t.Helper()
	conn, err := tls.Dial("tcp", addrOf(c.ports[i][1]), &tls.Config{ServerName: c.name, InsecureSkipVerify: true, ClientSessionCache: sessions,
		NextProtos: []string{"http/1.1"}})
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", c.name)
	_, _ = io.Copy(io.Discard, conn) // the session ticket arrives with the response
	return conn.ConnectionState().DidResume
}

// The first node cannot reach the CA and is suspended during a retry. The second node
// orders nevertheless, and the first one, resumed, answers the challenge. Both serve the
// certificate of this one order, resume each other's sessions, and continue to serve
// without the store.
func TestNodesShareAStore(t *testing.T) {
	t.Parallel()
	c := newCluster(t, pebbleOptions{})
	c.ca.mode.Store(503)
	c.start(0)
	eventually(t, waitTimeout, "the first node fails to reach the CA", func() bool { return c.ca.requestCount("dir") > 0 })
	c.ca.mode.Store(modeHang)
	before := c.ca.requestCount("dir")
	eventually(t, waitTimeout, "the first node retries", func() bool { return c.ca.requestCount("dir") > before })
	_ = c.programs[0].Signal(syscall.SIGSTOP)
	c.ca.mode.Store(modeUp)
	c.start(1)
	eventually(t, 2*time.Minute, "the second node orders, at the latest when the lease of the first expires", func() bool { return c.ca.orders() > 0 })
	_ = c.programs[0].Signal(syscall.SIGCONT)
	var serial string
	c.waitForBoth(waitTimeout, "the same certificate", func(leaf *x509.Certificate) bool {
		if serial == "" {
			serial = leaf.SerialNumber.String()
		}
		return leaf.SerialNumber.String() == serial
	})
	if got := c.ca.orders(); got != 1 {
		t.Errorf("got %d orders, want 1", got)
	}
	found := c.runDoctor(c.name, "-state", t.TempDir(), "-store", "redis://"+c.redis.Addr, "-store-key-file", c.key)
	if d := found["certificates"]; d.Level != "ok" || !strings.Contains(d.Text, "until") {
		t.Errorf("doctor: got %+v, want the certificate in the store to be valid", d)
	}
	sessions := tls.NewLRUClientSessionCache(1)
	c.sessionResumed(0, sessions)
	eventually(t, 2*time.Minute, "the second node resumes a session of the first", func() bool { return c.sessionResumed(1, sessions) })
	if err := c.redis.Stop(); err != nil {
		t.Log(err)
	}
	time.Sleep(time.Second)
	c.waitForBoth(waitTimeout, "the certificate without the store", func(leaf *x509.Certificate) bool { return leaf.SerialNumber.String() == serial })
}

// One of two nodes renews, and both serve the new certificate within seconds. When one
// node is killed, the other one continues to renew.
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
			t.Errorf("got %d orders for %d certificates, want at most one more", got, len(seen))
		}
	}
	_ = c.programs[1].Signal(syscall.SIGKILL)
	eventually(t, 2*waitTimeout, "the remaining node renews", func() bool {
		leaf := c.servedCert(0)
		return leaf != nil && isNew(leaf)
	})
}

// A node is suspended during its order, for longer than its lock is valid. The other node
// orders after SIGHUP. The first node, resumed, must not replace that certificate.
func TestPausedNodeChangesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, pebbleOptions{})
	unblock := c.ca.blockFinalize() // otherwise the order could finish before the node is suspended
	c.start(1)
	eventually(t, waitTimeout, "the node orders", func() bool { return c.ca.orders() > 0 })
	_ = c.programs[1].Signal(syscall.SIGSTOP)
	unblock()
	time.Sleep(redis.LeaseDuration + time.Second)
	c.start(0)
	eventually(t, waitTimeout, "the other node listens and handles SIGHUP", func() bool {
		_, err := tls.Dial("tcp", addrOf(c.ports[0][1]), &tls.Config{ServerName: c.name, InsecureSkipVerify: true})
		return err != nil && strings.Contains(err.Error(), "unrecognized name")
	})
	eventually(t, waitTimeout, "the other node orders", func() bool {
		_ = c.programs[0].Signal(syscall.SIGHUP)
		return c.ca.orders() > 1
	})
	var serial string
	eventually(t, waitTimeout, "the other node serves its certificate", func() bool {
		leaf := c.servedCert(0)
		if leaf != nil {
			serial = leaf.SerialNumber.String()
		}
		return leaf != nil
	})
	_ = c.programs[1].Signal(syscall.SIGCONT)
	for range 5 {
		time.Sleep(time.Second)
		c.waitForBoth(waitTimeout, "the certificate of the other node", func(leaf *x509.Certificate) bool { return leaf.SerialNumber.String() == serial })
	}
	if got := c.ca.orders(); got != 2 {
		t.Errorf("got %d orders, want 2", got)
	}
}
