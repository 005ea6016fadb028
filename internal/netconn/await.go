package netconn

import (
	"sync"
	"sync/atomic"
	"time"
)

// Awaiter is who waits in [FetchConn.Await].
type Awaiter interface {
	// Resume is called in a new goroutine when the wait is over.
	Resume()
}

// await is the state of [FetchConn.Await].
type await struct {
	beginning  sync.Mutex // held during Await: Resume can follow before it returns
	awaiter    Awaiter
	readBy     atomic.Int64 // the read deadline, as a time since began; zero without one
	fd         int32
	awaiting   atomic.Bool
	closed     atomic.Bool
	registered bool // with the poller
}

var began = time.Now()

// nearDeadline is how near a deadline is for which a goroutine waits: the poller looks at those of
// the others each checkInterval.
const (
	checkInterval = time.Second
	nearDeadline  = 2 * checkInterval
)

// isDueWithin reports whether the read deadline passes within d.
func (a *await) isDueWithin(d time.Duration) bool {
	by := a.readBy.Load()
	return by != 0 && time.Duration(by) < time.Since(began)+d
}

func (a *await) setReadBy(t time.Time) {
	by := int64(0)
	if !t.IsZero() {
		by = int64(t.Sub(began)) | 1
	}
	a.readBy.Store(by)
}

// SetReadDeadline implements [net.Conn].
func (c *FetchConn) SetReadDeadline(t time.Time) error {
	err := c.Conn.SetReadDeadline(t)
	c.noteReadDeadline(t)
	return err
}

// SetDeadline implements [net.Conn].
func (c *FetchConn) SetDeadline(t time.Time) error {
	err := c.Conn.SetDeadline(t)
	c.noteReadDeadline(t)
	return err
}

func (c *FetchConn) noteReadDeadline(t time.Time) {
	c.setReadBy(t)
	if c.awaiting.Load() && c.isDueWithin(nearDeadline) {
		c.endAwait()
	}
}

// Close implements [net.Conn].
func (c *FetchConn) Close() error {
	err := c.Conn.Close()
	if c.closed.Store(true); c.awaiting.Load() {
		c.endAwait()
	}
	return err
}
