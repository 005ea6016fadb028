package netconn

import (
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// checkedAtOnce bounds the connections for which others wait meanwhile.
	checkedAtOnce = 1024
	// eventsAtOnce is how many sockets are reported by one system call at most.
	eventsAtOnce = 128
	// awaited are the events of epoll. Each wait ends with the first of them.
	awaited = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT
)

// poller reports when sockets can be read, as the poller of the runtime does, but needs no
// goroutine for each. Its own descriptor is one of those that the runtime polls.
type poller struct {
	fd   int
	file *os.File // of fd

	mu      sync.Mutex
	waiting []*FetchConn // by file descriptor
	count   int
}

// thePoller returns the poller of the process, or nil if the system has none to give.
var thePoller = sync.OnceValue(func() *poller {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else the runtime would not poll it
		unix.Close(fd)
		return nil
	}
	p := &poller{fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	raw, err := p.file.SyscallConn()
	if err != nil || p.file.SetReadDeadline(time.Now().Add(checkInterval)) != nil {
		p.file.Close()
		return nil
	}
	go p.run(raw)
	return p
})

// run resumes connections for as long as the process lives.
func (p *poller) run(raw syscall.RawConn) {
	var events [eventsAtOnce]unix.EpollEvent
	n := 0
	poll := func(fd uintptr) bool {
		var err error
		if n, err = unix.EpollWait(int(fd), events[:], 0); err != nil {
			n = 0 // EINTR
		}
		return n > 0 || err != nil
	}
	for {
		if raw.Read(poll) != nil {
			n = 0
			p.resumeDue()
			_ = p.file.SetReadDeadline(time.Now().Add(checkInterval)) // the file is never closed
		}
		for _, e := range events[:n] {
			if c := p.at(int(e.Fd)); c != nil {
				p.resume(c)
			}
		}
	}
}

// at returns the connection that waits for a descriptor, or nil. The system can have given it to
// another connection since the event, which then looks in vain.
func (p *poller) at(fd int) *FetchConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fd >= len(p.waiting) {
		return nil
	}
	return p.waiting[fd]
}

// resumeDue resumes the connections whose deadlines are near.
func (p *poller) resumeDue() {
	for first, due := 0, []*FetchConn(nil); ; first += checkedAtOnce {
		p.mu.Lock()
		if first >= len(p.waiting) {
			p.mu.Unlock()
			return
		}
		due = due[:0]
		for _, c := range p.waiting[first:min(first+checkedAtOnce, len(p.waiting))] {
			if c != nil && c.isDueWithin(checkInterval) {
				due = append(due, c)
			}
		}
		p.mu.Unlock()
		for _, c := range due {
			p.resume(c)
		}
	}
}

// add notes that a connection waits, and lets the system report it. It must be called once before
// each resume. Close and deadlines see that it waits, or are seen afterwards.
func (p *poller) add(c *FetchConn, fd int) bool {
	p.mu.Lock()
	c.fd = int32(fd)
	c.awaiting.Store(true)
	if fd >= len(p.waiting) {
		p.waiting = append(p.waiting, make([]*FetchConn, fd+1-len(p.waiting))...)
	}
	if p.waiting[fd] == nil {
		p.count++
	}
	p.waiting[fd] = c // of another one, the system has closed the descriptor
	p.mu.Unlock()
	operation := unix.EPOLL_CTL_MOD
	if !c.registered {
		operation = unix.EPOLL_CTL_ADD
	}
	err := unix.EpollCtl(p.fd, operation, fd, &unix.EpollEvent{Events: awaited, Fd: int32(fd)})
	c.registered = c.registered || err == nil
	return err == nil
}

// stop ends the wait of a connection. It reports false if another goroutine was first.
func (p *poller) stop(c *FetchConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.awaiting.CompareAndSwap(true, false) {
		return false
	}
	if fd := int(c.fd); fd < len(p.waiting) && p.waiting[fd] == c {
		p.waiting[fd] = nil
		p.count--
	}
	return true
}

// resume ends the wait of a connection and continues with it in a goroutine. The order matters: the
// goroutine can wait again at once.
func (p *poller) resume(c *FetchConn) {
	if p.stop(c) {
		go c.awaiter.Resume()
	}
}

// Await is Fetch without a goroutine that waits: it returns at once, and Resume is called in a new
// goroutine when Fetch would return, or a little earlier: Resume should call Fetch. It reports false,
// and does nothing, if the connection cannot be polled, or its read deadline is near.
func (c *FetchConn) Await(awaiter Awaiter) bool {
	c.beginning.Lock()
	defer c.beginning.Unlock()
	if c.raw == nil || len(c.unread) > 0 || c.err != nil || c.isDueWithin(nearDeadline) {
		return false
	}
	p := thePoller()
	if p == nil {
		return false
	}
	c.awaiter = awaiter
	added := false
	err := c.raw.Control(func(fd uintptr) { added = p.add(c, int(fd)) })
	if err != nil {
		return false // closed
	}
	if !added {
		return !p.stop(c)
	}
	if c.isDueWithin(nearDeadline) || c.closed.Load() {
		p.resume(c)
	}
	return true
}

// endAwait makes what Close or a deadline has changed known to a connection that waits.
func (c *FetchConn) endAwait() { thePoller().resume(c) }

// Awaiting returns how many connections wait without a goroutine.
func Awaiting() int {
	p := thePoller()
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}
