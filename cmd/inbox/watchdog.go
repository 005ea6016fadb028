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

	"inbox/cmd/inbox/internal/host"
	"inbox/cmd/inbox/internal/sdnotify"
)

// The watchdog tells the service manager that the server still serves, and
// says nothing when it does not: it is killed then and started again.

// runWatchdog looks twice in the time that the service manager grants, and gives up
// after half of that. Then it looks again and again for as long as is left: a
// server that starved for a moment is busy, and does not hang.
func (s *server) runWatchdog(ctx context.Context) {
	timeout := sdnotify.WatchdogInterval(s.process.getenv, os.Getpid())
	if timeout == 0 {
		return
	}
	s.log.Debug("watchdog", "every", timeout/2)
	ticker := time.NewTicker(timeout / 2)
	defer ticker.Stop()
	var probing sync.Mutex
	for {
		var retry <-chan time.Time
		if err := s.selfTest(ctx, &probing, timeout/4); err != nil {
			s.log.Error("no sign of life is sent to the service manager", "err", err)
			retry = time.After(timeout / 16)
		} else if ctx.Err() == nil {
			s.notify.Watchdog(s.status())
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-retry:
		}
	}
}

// selfTest finds out within patience whether requests are answered and connections
// accepted. While the server stops nothing is accepted any more, and the time
// for that is limited elsewhere. asking is held while a request is under way.
func (s *server) selfTest(ctx context.Context, probing *sync.Mutex, timeout time.Duration) error {
	if !s.health.serving.Load() {
		return nil
	}
	if !probing.TryLock() {
		return errors.New("a request of the watchdog is still not answered")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		err := s.selfTestMailbox(ctx)
		probing.Unlock()
		answered <- err
	}()
	select {
	case err := <-answered:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return fmt.Errorf("a request of the watchdog was not answered in %v", timeout)
	}
	for _, l := range s.acceptProbes {
		if err := l.check(ctx); err != nil && s.health.serving.Load() {
			return err
		}
	}
	return nil
}

// selfTestMailbox sends requests through everything that answers peers: it claims a
// mailbox by a name that nobody can guess, and gives it up. As from a Unix
// socket they come from no address, so that no limit counts them. Any answer
// is one: a full store is no reason to be killed.
func (s *server) selfTestMailbox(ctx context.Context) (err error) {
	defer func() { // as net/http does for a peer's request
		if p := recover(); p != nil {
			err = fmt.Errorf("a request of the watchdog ended in a panic: %v", p)
		}
	}()
	name, password := rand.Text(), rand.Text()
	for _, req := range [][2]string{{http.MethodGet, "/inbox?wait=0"}, {http.MethodDelete, "/inbox"}} {
		r, err := http.NewRequestWithContext(ctx, req[0], req[1], http.NoBody)
		if err != nil {
			return err
		}
		r.RequestURI, r.RemoteAddr, r.Host = req[1], "@", "localhost"
		if len(s.cfg.domains) > 0 {
			r.Host = s.source.State()[0].Name // as CheckHost has it: not every way to write it
		}
		r.SetBasicAuth(name, password)
		rec := &statusRecorder{header: http.Header{}}
		s.mainServer.Handler.ServeHTTP(rec, r)
		switch rec.status { // a host that is not ours never came to the mailboxes
		case 0, http.StatusInternalServerError, http.StatusMisdirectedRequest:
			return fmt.Errorf("a request of the watchdog was answered with status %d", rec.status)
		}
	}
	return nil
}

// statusRecorder keeps of an answer its status.
type statusRecorder struct {
	header http.Header
	status int
}

func (w *statusRecorder) Header() http.Header { return w.header }

func (w *statusRecorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(b), nil
}

func (w *statusRecorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Flush implements [http.Flusher], which counts as delivered.
func (w *statusRecorder) Flush() {}

// SetReadDeadline and SetWriteDeadline let [http.ResponseController] have its way.
func (w *statusRecorder) SetReadDeadline(time.Time) error  { return nil }
func (w *statusRecorder) SetWriteDeadline(time.Time) error { return nil }

// acceptProbe counts what a listener accepts, refused connections included, so
// that the watchdog sees whether somebody still accepts.
type acceptProbe struct {
	net.Listener
	waiting  atomic.Bool // somebody is in Accept
	accepted atomic.Int64
	seen     int64 // by the watchdog, last time
}

// withAcceptProbe lets the watchdog see what the listener accepts.
func (s *server) withAcceptProbe(l net.Listener) net.Listener {
	probe := &acceptProbe{Listener: l}
	s.acceptProbes = append(s.acceptProbes, probe)
	return probe
}

// Accept implements [net.Listener].
func (l *acceptProbe) Accept() (net.Conn, error) {
	l.waiting.Store(true)
	c, err := l.Listener.Accept()
	l.waiting.Store(false)
	l.accepted.Add(1)
	return c, err
}

// check is nil when connections were accepted since it was last asked, or
// when one of our own is before ctx ends. So a server with visitors is never
// knocked at, and an idle one sees a connection that says nothing. Where none
// can be made, as behind a firewall without loopback or at a socket for others,
// it counts that somebody waits for one.
func (l *acceptProbe) check(ctx context.Context) error {
	defer func() { l.seen = l.accepted.Load() }()
	if l.accepted.Load() != l.seen {
		return nil
	}
	c, dialErr := l.dialSelf(ctx)
	if dialErr == nil {
		defer c.Close()
	}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for l.accepted.Load() == l.seen && (dialErr == nil || !l.waiting.Load()) {
		select {
		case <-ctx.Done():
			if dialErr != nil {
				return fmt.Errorf("nobody accepts at %s, and the watchdog cannot connect: %w", l.Addr(), dialErr)
			}
			return fmt.Errorf("a connection of the watchdog to %s is not accepted", l.Addr())
		case <-ticker.C:
		}
	}
	return nil
}

// dialSelf connects to the listener from this machine.
func (l *acceptProbe) dialSelf(ctx context.Context) (c net.Conn, err error) {
	addresses := host.DialAddrs(l.Addr().String())
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
func (s *server) status() string {
	if !s.health.serving.Load() {
		return sdnotify.StatusStopping
	}
	scheme := "HTTP"
	if s.source != nil {
		scheme = "HTTPS"
	}
	return fmt.Sprintf("Serves %s on %s: %d connections, %d mailboxes, %d requests waiting.",
		scheme, s.listeners.main.Addr(), s.limits.ConnStats().Open, s.stats().Inboxes, s.limits.Polls.Active())
}
