package sdnotify

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// notifyTimeout bounds one write: a service manager that does not read must not
// block the server.
const notifyTimeout = time.Second

// Notifier sends the service's status to the service manager (sd_notify(3)).
// Without one every method does nothing. A call takes two seconds at most; a
// failure is logged. A Notifier is safe for concurrent use.
type Notifier struct {
	socket string // path, or @ and an abstract name; empty for none
	log    *slog.Logger

	mu   sync.Mutex
	conn net.Conn // kept open: works even when the process is out of file descriptors
}

// NewNotifier returns a Notifier for the socket in $NOTIFY_SOCKET.
func NewNotifier(getenv func(name string) string, log *slog.Logger) *Notifier {
	return &Notifier{socket: getenv("NOTIFY_SOCKET"), log: log}
}

// notify sends the assignments in one datagram, which makes them take effect together.
func (n *Notifier) notify(assignments ...string) {
	if n.socket == "" {
		return
	}
	if err := n.send(strings.Join(assignments, "\n")); err != nil {
		n.log.Warn("sd_notify failed", "err", err)
	}
}

func (n *Notifier) send(text string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conn != nil {
		if n.write(text) == nil {
			return nil
		}
		n.conn.Close() // it fails if the service manager has recreated its socket
		n.conn = nil
	}
	c, err := net.Dial("unixgram", n.socket)
	if err != nil {
		return err
	}
	n.conn = c
	return n.write(text)
}

func (n *Notifier) write(text string) error {
	if err := n.conn.SetWriteDeadline(time.Now().Add(notifyTimeout)); err != nil {
		return err
	}
	_, err := n.conn.Write([]byte(text))
	return err
}

// Ready reports that startup or a reload is complete. The status line is shown to
// operators and must not contain names of mailboxes.
func (n *Notifier) Ready(status string) { n.notify("READY=1", "STATUS="+status) }

// Reloading reports the start of a reload, which the next Ready completes. systemd
// compares its time with that of the request.
func (n *Notifier) Reloading() {
	n.notify("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", monotonic().Microseconds()), "STATUS=Reloading certificates.")
}

// Watchdog resets systemd's watchdog; status is as for Ready.
func (n *Notifier) Watchdog(status string) { n.notify("WATCHDOG=1", "STATUS="+status) }

// StatusStopping is the status line during shutdown.
const StatusStopping = "Shutting down: draining requests."

// Stopping reports that shutdown has begun and asks for up to d.
func (n *Notifier) Stopping(d time.Duration) {
	n.notify("STOPPING=1", "STATUS="+StatusStopping, extendTimeout(d))
}

// ExtendTimeout asks for d from now on to complete a startup or shutdown. It must
// be called before the time granted so far has passed.
func (n *Notifier) ExtendTimeout(d time.Duration) { n.notify(extendTimeout(d)) }

func extendTimeout(d time.Duration) string {
	return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds())
}

// maxWatchdogInterval is about thirty years; larger values could overflow a Duration.
const maxWatchdogInterval = 1_000_000_000 * time.Second

// WatchdogInterval returns the longest time between two calls of
// [Notifier.Watchdog] that the service manager allows; zero if it expects none
// from the process pid.
func WatchdogInterval(getenv func(name string) string, pid int) time.Duration {
	if p := getenv("WATCHDOG_PID"); p != "" && p != strconv.Itoa(pid) {
		return 0
	}
	usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 || usec > maxWatchdogInterval.Microseconds() {
		return 0
	}
	return time.Duration(usec) * time.Microsecond
}
