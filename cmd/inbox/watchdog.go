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

	"inbox/cmd/inbox/internal/sdnotify"
)

// runWatchdog notifies systemd's watchdog as long as the server passes its self-test;
// otherwise systemd kills and restarts it. It tests twice in each watchdog interval
// with a timeout of a quarter of it, and retries soon after a failure, so that a
// server that was only starved for a moment is not killed.
func (s *server) runWatchdog(ctx context.Context) {
	interval := sdnotify.WatchdogInterval(s.process.getenv, os.Getpid())
	if interval == 0 {
		return
	}
	s.log.Debug("watchdog", "interval", interval/2)
	ticker := time.NewTicker(interval / 2)
	defer ticker.Stop()
	var probing sync.Mutex
	for {
		var retry <-chan time.Time
		if err := s.selfTest(ctx, &probing, interval/4); err != nil {
			s.log.Error("watchdog check failed; not notifying systemd", "err", err)
			retry = time.After(interval / 16)
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

// selfTest checks within timeout that requests are served, and that the listeners
// accept connections. It succeeds during shutdown, which has timeouts of its own.
// probing is held while a request is in progress.
func (s *server) selfTest(ctx context.Context, probing *sync.Mutex, timeout time.Duration) error {
	if !s.health.serving.Load() {
		return nil
	}
	if !probing.TryLock() {
		return errors.New("the request of an earlier self-test is still in progress")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := s.selfTestMailbox(ctx)
		probing.Unlock()
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return fmt.Errorf("the self-test got no response within %v", timeout)
	}
	for _, p := range s.acceptProbes {
		if err := p.check(); err != nil && s.health.serving.Load() {
			return err
		}
	}
	return nil
}

// selfTestMailbox sends requests through all handlers: it claims a mailbox with a
// random name and deletes it. They have no address, like those from a Unix socket, so
// that no limit counts them. A refusal is a success: a full store is no reason to
// restart.
func (s *server) selfTestMailbox(ctx context.Context) (err error) {
	defer func() { // as net/http does
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in the self-test: %v", p)
		}
	}()
	name, password := rand.Text(), rand.Text()
	for _, req := range [][2]string{{http.MethodGet, "/inbox?wait=0"}, {http.MethodDelete, "/inbox"}} {
		r, err := http.NewRequestWithContext(ctx, req[0], req[1], http.NoBody)
		if err != nil {
			return err
		}
		r.RequestURI, r.RemoteAddr, r.Host = req[1], "@", "localhost"
		if len(s.cfg.Domains) > 0 {
			r.Host = s.source.State()[0].Name // in the form that CheckHost compares
		}
		r.SetBasicAuth(name, password)
		rec := &statusRecorder{header: http.Header{}}
		s.mainServer.Handler.ServeHTTP(rec, r)
		switch rec.status { // 421: the request did not reach the mailboxes
		case 0, http.StatusInternalServerError, http.StatusMisdirectedRequest:
			return fmt.Errorf("the self-test got status %d", rec.status)
		}
	}
	return nil
}

// statusRecorder is a ResponseWriter that keeps only the status.
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

// Flush implements [http.Flusher].
func (w *statusRecorder) Flush() {}

// SetReadDeadline and SetWriteDeadline are called through [http.ResponseController].
func (w *statusRecorder) SetReadDeadline(time.Time) error  { return nil }
func (w *statusRecorder) SetWriteDeadline(time.Time) error { return nil }

// acceptProbe observes calls of Accept, so that the watchdog notices an accept loop
// that hangs.
type acceptProbe struct {
	net.Listener
	steps atomic.Int64 // calls and returns of Accept; odd during a call
	seen  int64        // steps at the last check
}

// withAcceptProbe adds a probe to the listener.
func (s *server) withAcceptProbe(l net.Listener) net.Listener {
	probe := &acceptProbe{Listener: l, seen: -1}
	s.acceptProbes = append(s.acceptProbes, probe)
	return probe
}

// Accept implements [net.Listener].
func (p *acceptProbe) Accept() (net.Conn, error) {
	p.steps.Add(1)
	defer p.steps.Add(1)
	return p.Listener.Accept()
}

// check returns an error if Accept has not been called since the last check and is
// not being called now.
func (p *acceptProbe) check() error {
	steps := p.steps.Load()
	if steps == p.seen && steps%2 == 0 {
		return fmt.Errorf("the listener at %s does not accept connections", p.Addr())
	}
	p.seen = steps
	return nil
}

// status returns a line for systemctl status: the address and the current load.
func (s *server) status() string {
	if !s.health.serving.Load() {
		return sdnotify.StatusStopping
	}
	scheme := "HTTP"
	if s.source != nil {
		scheme = "HTTPS"
	}
	return fmt.Sprintf("Serving %s on %s: %d connections, %d mailboxes, %d requests waiting.",
		scheme, s.listeners.main.Addr(), s.limits.ConnStats().Open, s.stats().Inboxes, s.limits.Polls.Active())
}
