package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"inbox/cmd/inbox/internal/sdnotify"
)

// runWatchdog notifies systemd's watchdog as long as the server passes its self-test;
// otherwise systemd kills and restarts it. It tests twice in each watchdog interval
// with a timeout of a quarter of it, and retries soon after a failure, so that a
// server that was only starved for a moment is not killed. An interval of 0 means that
// systemd does not watch the server.
func runWatchdog(ctx context.Context, interval time.Duration, test *selfTest, notify *sdnotify.Notifier, status func() string, log *slog.Logger) {
	if interval == 0 {
		return
	}
	log.Debug("watchdog", "interval", interval/2)
	ticker := time.NewTicker(interval / 2)
	defer ticker.Stop()
	for {
		var retry <-chan time.Time
		if err := test.run(ctx, interval/4); err != nil {
			log.Error("watchdog check failed; not notifying systemd", "err", err)
			retry = time.After(interval / 16)
		} else if ctx.Err() == nil {
			notify.Watchdog(status())
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-retry:
		}
	}
}

// selfTest checks that requests are served and connections accepted.
type selfTest struct {
	handler http.Handler
	host    string // a host name that is served
	serving func() bool
	probes  []*acceptProbe

	pending sync.Mutex // held while a request is in progress
}

// run checks the server within timeout. It succeeds during shutdown, which has timeouts
// of its own.
func (t *selfTest) run(ctx context.Context, timeout time.Duration) error {
	if !t.serving() {
		return nil
	}
	if !t.pending.TryLock() {
		return errors.New("the request of an earlier self-test is still in progress")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := t.request(ctx)
		t.pending.Unlock()
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
	for _, p := range t.probes {
		if err := p.check(); err != nil && t.serving() {
			return err
		}
	}
	return nil
}

// request sends requests through all layers: it claims a mailbox with a random name and
// deletes it. They have no address, like those from a Unix socket, so that no limit
// counts them. A refusal is a success: a full store is no reason to restart.
func (t *selfTest) request(ctx context.Context) (err error) {
	defer func() { // as net/http does
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in the self-test: %v", p)
		}
	}()
	name, password := rand.Text(), rand.Text()
	for _, req := range [][2]string{{http.MethodGet, mailboxPath + "?wait=0"}, {http.MethodDelete, mailboxPath}} {
		r, err := http.NewRequestWithContext(ctx, req[0], req[1], http.NoBody)
		if err != nil {
			return err
		}
		r.RequestURI, r.RemoteAddr, r.Host = req[1], "@", t.host
		r.SetBasicAuth(name, password)
		rec := &statusRecorder{header: http.Header{}}
		t.handler.ServeHTTP(rec, r)
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
