package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"inbox/cmd/inbox/binding"
	"inbox/cmd/inbox/systemd"
)

// The watchdog tells the service manager that the server still serves, and
// says nothing when it does not: it is killed then and started again.

// watch looks twice in the time that the service manager grants, and gives up
// after half of that. Then it looks again and again for as long as is left: a
// server that starved for a moment is busy, and does not hang.
func (h *house) watch(ctx context.Context) {
	granted := systemd.WatchdogInterval(h.process.getenv, os.Getpid())
	if granted == 0 {
		return
	}
	h.log.Debug("watchdog", "every", granted/2)
	ticker := time.NewTicker(granted / 2)
	defer ticker.Stop()
	var asking sync.Mutex
	for {
		var again <-chan time.Time
		if err := h.alive(ctx, &asking, granted/4); err != nil {
			h.log.Error("no sign of life is sent to the service manager", "err", err)
			again = time.After(granted / 16)
		} else if ctx.Err() == nil {
			h.notify.Watchdog(h.status())
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-again:
		}
	}
}

// alive finds out within patience whether requests are answered and connections
// accepted. While the server stops nothing is accepted any more, and the time
// for that is limited elsewhere. asking is held while a request is under way.
func (h *house) alive(ctx context.Context, asking *sync.Mutex, patience time.Duration) error {
	if !h.health.serving.Load() {
		return nil
	}
	if !asking.TryLock() {
		return errors.New("a request of the watchdog is still not answered")
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		err := h.askMailbox(ctx)
		asking.Unlock()
		answered <- err
	}()
	select {
	case err := <-answered:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return fmt.Errorf("a request of the watchdog was not answered in %v", patience)
	}
	for _, l := range h.loops {
		if err := l.accepts(ctx); err != nil && h.health.serving.Load() {
			return err
		}
	}
	return nil
}

// askMailbox sends requests through everything that answers peers: it claims a
// mailbox by a name that nobody can guess, and gives it up. As from a Unix
// socket they come from no address, so that no limit counts them. Any answer
// is one: a full store is no reason to be killed.
func (h *house) askMailbox(ctx context.Context) (err error) {
	defer func() { // as net/http does for a peer's request
		if p := recover(); p != nil {
			err = fmt.Errorf("a request of the watchdog ended in a panic: %v", p)
		}
	}()
	name, password := rand.Text(), rand.Text()
	for _, ask := range [][2]string{{http.MethodGet, "/inbox?wait=0"}, {http.MethodDelete, "/inbox"}} {
		r, err := http.NewRequestWithContext(ctx, ask[0], ask[1], http.NoBody)
		if err != nil {
			return err
		}
		r.RequestURI, r.RemoteAddr, r.Host = ask[1], "@", "localhost"
		if len(h.cfg.domains) > 0 {
			r.Host = h.source.State()[0].Name // as CheckHost has it: not every way to write it
		}
		r.SetBasicAuth(name, password)
		answer := &quietWriter{header: http.Header{}}
		h.server.Handler.ServeHTTP(answer, r)
		switch answer.status { // a host that is not ours never came to the mailboxes
		case 0, http.StatusInternalServerError, http.StatusMisdirectedRequest:
			return fmt.Errorf("a request of the watchdog was answered with status %d", answer.status)
		}
	}
	return nil
}

// quietWriter keeps of an answer its status.
type quietWriter struct {
	header http.Header
	status int
}

func (w *quietWriter) Header() http.Header { return w.header }

func (w *quietWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(b), nil
}

func (w *quietWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Flush implements [http.Flusher], which counts as delivered.
func (w *quietWriter) Flush() {}

// SetReadDeadline and SetWriteDeadline let [http.ResponseController] have its way.
func (w *quietWriter) SetReadDeadline(time.Time) error  { return nil }
func (w *quietWriter) SetWriteDeadline(time.Time) error { return nil }

// acceptLoop counts what a listener accepts, refused connections included, so
// that the watchdog sees whether somebody still accepts.
type acceptLoop struct {
	net.Listener
	waiting  atomic.Bool // somebody is in Accept
	accepted atomic.Int64
	seen     int64 // by the watchdog, last time
}

// watched lets the watchdog see what the listener accepts.
func (h *house) watched(l net.Listener) net.Listener {
	loop := &acceptLoop{Listener: l}
	h.loops = append(h.loops, loop)
	return loop
}

// Accept implements [net.Listener].
func (l *acceptLoop) Accept() (net.Conn, error) {
	l.waiting.Store(true)
	c, err := l.Listener.Accept()
	l.waiting.Store(false)
	l.accepted.Add(1)
	return c, err
}

// accepts is nil when connections were accepted since it was last asked, or
// when one of our own is before ctx ends. So a server with visitors is never
// knocked at, and an idle one sees a connection that says nothing. Where none
// can be made, as behind a firewall without loopback or at a socket for others,
// it counts that somebody waits for one.
func (l *acceptLoop) accepts(ctx context.Context) error {
	defer func() { l.seen = l.accepted.Load() }()
	if l.accepted.Load() != l.seen {
		return nil
	}
	c, unknocked := l.knock(ctx)
	if unknocked == nil {
		defer c.Close()
	}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for l.accepted.Load() == l.seen && (unknocked == nil || !l.waiting.Load()) {
		select {
		case <-ctx.Done():
			if unknocked != nil {
				return fmt.Errorf("nobody accepts at %s, and the watchdog cannot connect: %w", l.Addr(), unknocked)
			}
			return fmt.Errorf("a connection of the watchdog to %s is not accepted", l.Addr())
		case <-ticker.C:
		}
	}
	return nil
}

// knock connects to the listener from this machine.
func (l *acceptLoop) knock(ctx context.Context) (c net.Conn, err error) {
	addresses := binding.DialAddrs(l.Addr().String())
	if l.Addr().Network() == "unix" {
		addresses = []string{l.Addr().String()}
	}
	err = errors.New("no address leads there")
	for _, address := range addresses {
		if c, err = new(net.Dialer).DialContext(ctx, l.Addr().Network(), address); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// status is a line about the server for a person: where it listens, and how
// much there is to do.
func (h *house) status() string {
	if !h.health.serving.Load() {
		return systemd.StatusStopping
	}
	scheme := "HTTP"
	if h.source != nil {
		scheme = "HTTPS"
	}
	var open int64
	for _, l := range h.limits.listeners {
		open += l.Stats().Open
	}
	return fmt.Sprintf("Serves %s on %s: %d connections, %d mailboxes, %d requests waiting.",
		scheme, h.doors.main.Addr(), open, h.stats().Inboxes, h.limits.held.Active())
}
