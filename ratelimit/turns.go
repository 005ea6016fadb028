package ratelimit

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Turns bounds how many TLS handshakes of an address are worked on at once, so
// that one that opens many connections does not have all processors to itself.
// The others of that address wait in order, and no other address waits for
// them. A turn lasts while the server computes and never while it waits for the
// client: it is taken when something was read, and given back before the next
// write or read. Connections of trusted proxies and Unix sockets wait for nobody.
type Turns struct {
	// PerAddr is how many an address has at once, and a /48 sixteen times as
	// many; zero is no limit.
	PerAddr int
	// Patience is how long after its start a connection may wait for a turn.
	Patience time.Duration
	// Clients knows the proxies.
	Clients *Clients
	// DryRun counts who would wait, and lets nobody.
	DryRun bool

	waited atomic.Int64
	mu     sync.Mutex
	lines  map[key]*line // of those who have a turn or wait for one
}

// line is where an address waits: what is sent is a turn, and whoever waits to
// send is next in order.
type line struct {
	turns chan struct{}
	users int
}

// Waited returns how often a handshake had to wait.
func (t *Turns) Waited() int64 { return t.waited.Load() }

// Handshakes returns a listener, to be put under TLS, whose connections take
// turns until their handshake is done.
func (t *Turns) Handshakes(inner net.Listener) net.Listener {
	if t.PerAddr <= 0 {
		return inner
	}
	return turnListener{inner, t}
}

type turnListener struct {
	net.Listener
	turns *Turns
}

func (l turnListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	shake := &handshake{records: splitter{head: recordHead}, until: time.Now().Add(l.turns.Patience)}
	shake.records.measure = shake.measure
	return &turnConn{Conn: c, turns: l.turns, shake: shake}, nil
}

// turnConn takes turns while it shakes hands.
type turnConn struct {
	net.Conn
	turns  *Turns
	shake  *handshake // nil once it is done; the reader's alone
	keys   [2]key     // the address's, none for one that waits for nobody
	held   atomic.Bool
	closed atomic.Bool
}

// handshake follows the records that come.
type handshake struct {
	records splitter
	until   time.Time
	done    bool
	known   bool // whether the keys are: under a PROXY header only once something was read
}

// measure sees the end of what costs in the first record of another kind than
// the handshake's: in TLS 1.3 the client's Finished, in 1.2 its first request. No
// expensive step follows it, and before its time it is an error.
func (h *handshake) measure(head []byte) (length int, counts bool) {
	const applicationData = 23
	h.done = h.done || head[0] == applicationData
	return measureRecord(head)
}

// Raw returns the connection underneath.
func (c *turnConn) Raw() net.Conn { return c.Conn }

func (c *turnConn) Read(p []byte) (int, error) {
	c.giveBack()
	n, err := c.Conn.Read(p)
	if c.shake == nil || n == 0 {
		return n, err
	}
	if c.shake.records.count(p[:n]); c.shake.done {
		c.shake = nil
		return n, err
	}
	if !c.take() {
		return 0, os.ErrDeadlineExceeded
	}
	return n, err
}

func (c *turnConn) Write(p []byte) (int, error) {
	c.giveBack()
	return c.Conn.Write(p)
}

// Close closes the connection. One that still waits for its turn finds out
// when it has it.
func (c *turnConn) Close() error {
	c.closed.Store(true)
	c.giveBack()
	return c.Conn.Close()
}

// take waits for a turn, and reports whether the connection may go on.
func (c *turnConn) take() bool {
	if !c.shake.known {
		c.shake.known = true
		if addr := connAddr(c.Conn); !c.turns.Clients.trusts(addr) {
			c.keys = keysOf(addr)
		}
	}
	if c.keys[0] == (key{}) {
		return true
	}
	if !c.turns.take(c.keys, c.shake.until) {
		return c.turns.DryRun
	}
	if c.held.Store(true); c.closed.Load() {
		c.giveBack()
	}
	return true
}

// giveBack ends the turn, if there is one.
func (c *turnConn) giveBack() {
	if c.held.Load() && c.held.Swap(false) {
		c.turns.give(c.keys)
	}
}

// take waits for a turn of the address, then for one of its network.
func (t *Turns) take(keys [2]key, until time.Time) bool {
	if !t.enter(keys[0], until) {
		return false
	}
	if !t.enter(keys[1], until) {
		t.leave(keys[0])
		return false
	}
	return true
}

func (t *Turns) give(keys [2]key) {
	t.leave(keys[1])
	t.leave(keys[0])
}

// enter reports whether there is a turn now, for the one who waited for it.
func (t *Turns) enter(k key, until time.Time) bool {
	if k == (key{}) {
		return true
	}
	turns := t.join(k)
	select {
	case turns <- struct{}{}:
		return true
	default:
	}
	if t.waited.Add(1); t.DryRun {
		t.part(k)
		return false
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case turns <- struct{}{}:
		return true
	case <-timer.C:
		t.part(k)
		return false
	}
}

func (t *Turns) leave(k key) {
	if k != (key{}) {
		<-t.part(k)
	}
}

// join counts one more user of a line, made for the first.
func (t *Turns) join(k key) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lines[k]
	if l == nil {
		l = &line{turns: make(chan struct{}, t.most(k))}
		if t.lines == nil {
			t.lines = make(map[key]*line)
		}
		t.lines[k] = l
	}
	l.users++
	return l.turns
}

// part counts one user less; the last takes the line away.
func (t *Turns) part(k key) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lines[k]
	if l.users--; l.users == 0 {
		delete(t.lines, k)
	}
	return l.turns
}

func (t *Turns) most(k key) int {
	if k.isNetwork() {
		return networkFactor * t.PerAddr
	}
	return t.PerAddr
}
