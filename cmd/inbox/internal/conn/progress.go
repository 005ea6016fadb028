package conn

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// minProgressBytes is what a client must receive of a response in [WriteLimit.Timeout].
const minProgressBytes = 64 << 10

// WriteLimit ends connections whose client does not read what is written to them: a write
// that waits fails when the client receives less than 64 KiB in Timeout. A slow download of
// any length continues. A write with a deadline of its own is not limited.
//
// On Linux, the client has received what its kernel has acknowledged. The buffer of a socket
// grows to megabytes, and accepts nothing until a third of it is free. Elsewhere and on Unix
// sockets, what this kernel accepts counts.
type WriteLimit struct {
	// Timeout is checked ten times while it passes. Zero is no limit.
	Timeout time.Duration

	stalled atomic.Int64
}

// Stalled returns how many writes failed.
func (l *WriteLimit) Stalled() int64 { return l.stalled.Load() }

// interval is the time between two checks of a write that waits. A shorter write counts as
// one that did not wait.
func (l *WriteLimit) interval() time.Duration { return l.Timeout / 10 }

// writeProgress follows the writes of a connection that wait for its client. Times are
// durations since the connection was accepted.
type writeProgress struct {
	limit   *WriteLimit
	written atomic.Int64 // bytes that the kernel has accepted

	mu     sync.Mutex
	waited time.Duration // when a write last waited
	since  time.Duration // when the client had received the bytes that follow
	bytes  int64
}

// continues reports whether a write that began at one time and waits at another can continue.
func (w *writeProgress) continues(c net.Conn, began, now time.Duration) bool {
	received, known := acknowledgedBytes(c)
	if !known {
		received = w.written.Load()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	isFirst := w.waited == 0 || began-w.waited > w.limit.interval()
	if isFirst || received-w.bytes >= minProgressBytes {
		w.since, w.bytes = now, received
	}
	w.waited = now
	if now-w.since < w.limit.Timeout {
		return true
	}
	w.limit.stalled.Add(1)
	return false
}

// endedAt notes the end of a write that has waited.
func (w *writeProgress) endedAt(now time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waited = now
}
