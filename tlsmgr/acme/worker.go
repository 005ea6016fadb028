package acme

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/storage"
)

// worker obtains and renews the certificate of one name.
type worker struct {
	name string
	wake chan struct{}
	// restored is closed when the stored state has been loaded. The fields below belong to
	// the goroutine that loads it until then, and to the worker's goroutine afterwards.
	restored        chan struct{}
	state           schedule.State
	overdueLoggedAt time.Time
	loggedPending   string // last logged error about a finalized order

	mu     sync.Mutex
	forced bool // an operator requested an order
	view   view
}

// view is what other goroutines see of a worker.
type view struct {
	cert     *Certificate
	ari      schedule.ARI
	state    schedule.State
	next     time.Time // of the next order; zero means now
	blocked  error     // reason why no order can be made, or nil
	loadErr  error     // of loading the stored certificate
	obtained int
}

// show puts the state and a decision into the view. blocked is the reason why no order can
// be made, or nil.
func (w *worker) show(action schedule.Action, blocked error) {
	w.updateView(func(v *view) { v.state, v.next, v.blocked = w.state, action.Next, blocked })
}

func (w *worker) updateView(change func(*view)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.view)
}

func (w *worker) get() view {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view
}

// takeForced reports whether an operator requested an order since the last step.
func (w *worker) takeForced() bool {
	w.mu.Lock()
	forced := w.forced
	w.forced = false
	w.mu.Unlock()
	if forced {
		w.state.Force()
	}
	return forced
}

// err returns the current problem, or nil. An earlier failure is no problem while the
// certificate is valid and not due.
func (v *view) err(now time.Time) error {
	switch text := v.state.Err(); {
	case v.blocked != nil && !errors.Is(v.blocked, storage.ErrLocked):
		return v.blocked
	case text != "" && !v.satisfied(now):
		return errors.New(text)
	case v.cert == nil:
		return v.loadErr
	}
	return nil
}

// renewAt returns when the certificate is due; zero means now.
func (v *view) renewAt() time.Time { return schedule.RenewAt(v.cert.summary(), v.ari) }

// satisfied reports whether the certificate is valid and not due, and no order has failed
// since it was obtained.
func (v *view) satisfied(now time.Time) bool {
	return !v.state.Troubled() && v.cert != nil && certs.ValidAt(v.cert.Certificate, now) && v.renewAt().After(now)
}

// status describes the current activity in a few words.
func (v *view) status(now time.Time) string {
	switch {
	case errors.Is(v.blocked, storage.ErrLocked):
		return "another process is ordering"
	case errors.Is(v.blocked, errNoAddress):
		return "waiting for an address"
	case v.blocked != nil:
		return "storage failed; no certificate is ordered"
	case v.state.Pending():
		return "waiting for the CA to issue"
	case v.state.Phase == schedule.Ordering:
		return string(v.state.Phase)
	case v.err(now) != nil:
		return "waiting to retry"
	case v.state.Phase == schedule.Idle && v.cert == nil:
		return ""
	}
	return "renewal is not due"
}

// logFailure logs why an order failed, and how to fix it.
func (w *worker) logFailure(log *slog.Logger, err error) {
	now := time.Now()
	if text := err.Error(); errors.Is(err, ErrOrderPending) && w.state.Pending() {
		if w.loggedPending == text { // it is resumed every few minutes
			return
		}
		w.loggedPending = text
	}
	w.overdueLoggedAt = now
	attrs := []any{"name", w.name, "err", err, "fix", fixFor(asOrderError(err)), "next", w.state.NextOrder()}
	switch c := w.get().cert; {
	case c == nil:
		log.Warn("no certificate yet", attrs...)
	case now.After(c.Leaf.NotAfter):
		log.Error("the certificate has expired and could not be renewed", attrs...)
	default:
		left := c.Leaf.NotAfter.Sub(now).Round(time.Second)
		log.Warn("the certificate could not be renewed; the old one stays in use", append(attrs, "left", left)...)
	}
}

func fixFor(e *OrderError) string {
	switch {
	case e.Fix != "":
		return e.Fix
	case errors.Is(e, ErrOrderPending):
		return "none: the order is resumed automatically, and no other one is made until then"
	case e.Outcome == schedule.ValidationFailed:
		return "make sure that the name resolves to this server, and that the CA can reach port 80 or 443"
	case e.Outcome == schedule.CARejected:
		return "see the message of the CA; the cause can be a CAA record, the account or a rate limit"
	}
	return "none if the problem is temporary; otherwise check the connection to the CA and the clock of this server"
}

// logOverdue logs that the certificate is due and not renewed, because its cause can have
// been logged weeks ago. It does so once a day, or once in a thirtieth of the lifetime if
// that is shorter.
func (w *worker) logOverdue(log *slog.Logger, now time.Time) {
	v := w.get()
	err := v.err(now)
	if v.cert == nil || err == nil || now.Before(v.renewAt()) {
		return
	}
	interval := 24 * time.Hour
	if part := v.cert.summary().Lifetime() / 30; part > 0 { // zero or negative for an invalid certificate
		interval = min(interval, part)
	}
	if now.Sub(w.overdueLoggedAt) < interval {
		return
	}
	w.overdueLoggedAt = now
	if left := v.cert.Leaf.NotAfter.Sub(now).Round(time.Second); left > 0 {
		log.Warn("the certificate is not renewed yet; the old one stays in use", "name", w.name, "left", left, "err", err)
		return
	}
	log.Error("the certificate has expired and is not renewed", "name", w.name, "err", err)
}
