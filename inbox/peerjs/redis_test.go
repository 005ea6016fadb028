//go:build linux

package peerjs

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/redisstore"
)

// startRedis returns the address of a Redis that ends with the test.
func startRedis(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("redis-server is missing: apt install redis-server")
		}
		t.Skip("redis-server is missing: apt install redis-server")
	}
	socket := t.TempDir() + "/redis"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	cmd := exec.Command("redis-server", "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--unixsocket", socket, "--save", "", "--appendonly", "no")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	addr := fmt.Sprint("127.0.0.1:", port)
	for by := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return addr
		}
		if time.Now().After(by) {
			t.Fatal("Redis does not start")
		}
	}
}

// line is the connection of a node with Redis, which can be cut.
type line struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	isCut bool
}

// connect starts a line to an address.
func connect(t *testing.T, addr string) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{Listener: listener}
	t.Cleanup(l.cut)
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", addr)
			if err != nil {
				from.Close()
				continue
			}
			l.add(from, to)
			go func() { _, _ = io.Copy(to, from); to.Close() }()
			go func() { _, _ = io.Copy(from, to); from.Close() }()
		}
	}()
	return l
}

func (l *line) add(conns ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns = append(l.conns, conns...); l.isCut {
		for _, c := range conns {
			c.Close()
		}
	}
}

func (l *line) cut() {
	l.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = true
	for _, c := range l.conns {
		c.Close()
	}
}

// serveNode starts one of several nodes.
func serveNode(t *testing.T, addr string) *testServer {
	t.Helper()
	l := connect(t, addr)
	address, err := redisstore.ParseAddress("redis://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := testConfig()
	store := redisstore.New(redisstore.Config{Address: address, Limits: inbox.Limits{Timeout: time.Minute, Capacity: 100}})
	t.Cleanup(store.Shutdown)
	c.Store, c.Shared = store, true
	s := serve(t, c)
	s.crash = l.cut
	s.await("connection to Redis", func() bool { return store.Ready() == nil })
	return s
}

// TestNodes has peers of two nodes that share a Redis.
func TestNodes(t *testing.T) {
	const a, b, elsewhere = "192.0.2.1", "192.0.2.2", "192.0.2.3"
	addr := startRedis(t)
	for _, row := range []struct {
		name string
		test func(one, two *testServer, x string)
	}{
		{"frames reach the other node", func(one, two *testServer, id string) {
			x, y := one.open(id, "t1", a), two.open("y-"+id, "t2", b)
			for i := range 50 {
				x.message("CANDIDATE", y.id, fmt.Sprint(i))
			}
			for i := range 50 {
				y.expectFrom("CANDIDATE", id, fmt.Sprint(i))
			}
		}},
		{"an absent id of the other node arrives later", func(one, two *testServer, id string) {
			one.timing.absent = wait
			x := one.open(id, "t1", a)
			x.message("OFFER", "late-"+id, `1`)
			x.message("CANDIDATE", "late-"+id, `2`)
			y := two.open("late-"+id, "t2", b)
			y.expectFrom("OFFER", id, `1`)
			y.expectFrom("CANDIDATE", id, `2`)
		}},
		{"the same token takes over from the other node", func(one, two *testServer, id string) {
			x, y := one.open(id, "t1", a), one.open("y-"+id, "t2", b)
			x.deaf.Store(true)
			y.message("OFFER", id, `1`)
			y.expectNothing()
			again := two.open(id, "t1", elsewhere)
			again.expectFrom("OFFER", y.id, `1`)
			x.deaf.Store(false)
			x.expectEnd()
			y.message("CANDIDATE", id, `2`)
			again.expectFrom("CANDIDATE", y.id, `2`)
		}},
		{"a live id of the other node is taken", func(one, two *testServer, id string) {
			x := one.open(id, "t1", a)
			two.dial(id, "another", a).expect(string(idTakenFrame))
			x.expectNothing()
		}},
		{"a dead line of the other node gives its id up", func(one, two *testServer, id string) {
			x, y := one.open(id, "t1", a), two.open("y-"+id, "t2", b)
			x.deaf.Store(true)
			y.message("OFFER", id, `1`)
			again := two.open(id, "reloaded", elsewhere)
			y.expectFrom("EXPIRE", id, "")
			y.message("OFFER", id, `2`)
			again.expectFrom("OFFER", y.id, `2`)
		}},
		{"the id of a lost line of the other node is kept", func(one, two *testServer, id string) {
			one.timing.grace = wait
			x := one.open(id, "t1", a)
			x.hangUp()
			two.dial(id, "stranger", elsewhere).expect(string(idTakenFrame))
			two.open(id, "reloaded", a)
		}},
		{"one that left the other node comes back", func(one, two *testServer, id string) {
			x, y := one.open(id, "t1", a), one.open("y-"+id, "t2", b)
			x.leave()
			y.message("OFFER", id, `1`)
			y.expectNothing()
			two.open(id, "t3", elsewhere).expectFrom("OFFER", y.id, `1`)
		}},
		{"a node that stops gives its ids back", func(one, two *testServer, id string) {
			x, y := one.open(id, "t1", a), two.open("y-"+id, "t2", b)
			one.open("z-"+id, "t3", a)
			one.Stop(1012)
			x.expectEnd()
			if code := x.code.Load(); code != 1012 {
				two.t.Errorf("got code %d, want 1012", code)
			}
			y.message("OFFER", id, `1`)
			y.expectNothing()
			two.dial("z-"+id, "stranger", elsewhere).expect(string(idTakenFrame))
			two.open(id, "t1", elsewhere).expectFrom("OFFER", y.id, `1`)
			two.open("z-"+id, "reloaded", a)
		}},
		{"of several newcomers at other nodes, one gets the id of a dead line", func(one, two *testServer, id string) {
			x := one.open(id, "t1", a)
			x.deaf.Store(true)
			three := serveNode(two.t, addr)
			newcomers := []*client{two.dial(id, "t2", elsewhere), three.dial(id, "t3", elsewhere)}
			got := map[string]int{}
			for _, c := range newcomers {
				got[c.next()]++
			}
			if got[string(openFrame)] != 1 || got[string(idTakenFrame)] != 1 {
				two.t.Errorf("got %v", got)
			}
		}},
		{"after a crash, an id is given back to its token at once, with what waits", func(one, two *testServer, id string) {
			x, y := one.open(id, "t1", a), two.open("y-"+id, "t2", b)
			one.crash()
			x.hangUp()
			y.message("OFFER", id, `1`)
			y.message("CANDIDATE", id, `2`)
			y.expectNothing()
			two.timing.ask = 10 * wait
			again := two.open(id, "t1", elsewhere)
			again.expectFrom("OFFER", y.id, `1`)
			again.expectFrom("CANDIDATE", y.id, `2`)
			again.expectNothing()
		}},
		{"after a crash, another token gets the id when the node does not answer, without what waits", func(one, two *testServer, id string) {
			one.open(id, "t1", a)
			y := two.open("y-"+id, "t2", b)
			one.crash()
			y.message("OFFER", id, `1`)
			again := two.open(id, "another", elsewhere)
			y.expectFrom("EXPIRE", id, "")
			again.expectNothing()
			y.message("OFFER", id, `2`)
			again.expectFrom("OFFER", y.id, `2`)
			two.timing.ask = 10 * wait
			three := serveNode(two.t, addr)
			three.timing.ask = 10 * wait
			three.open(id, "another", a) // its token is known now
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			row.test(serveNode(t, addr), serveNode(t, addr), fmt.Sprintf("%p", &row))
		})
	}
}
