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

// notifyTimeout bounds one notice: a service manager that does not read must not
// hold the server up.
const notifyTimeout = time.Second

// Notifier tells the service manager how the server is, in systemd's protocol
// (sd_notify). Without one every call does nothing. A notice takes two seconds
// at the most; one that does not arrive is logged. It may be used by several
// goroutines at once.
type Notifier struct {
	socket string // a path, or a name after @; empty for none
	log    *slog.Logger

	mu   sync.Mutex
	conn net.Conn // kept: a server that is out of files can still say that it lives
}

// NewNotifier finds the socket for notices in the environment.
func NewNotifier(getenv func(name string) string, log *slog.Logger) *Notifier {
	return &Notifier{socket: getenv("NOTIFY_SOCKET"), log: log}
}

// notify sends assignments in one datagram, so that they count together.
func (n *Notifier) notify(assignments ...string) {
	if n.socket == "" {
		return
	}
	if err := n.send(strings.Join(assignments, "\n")); err != nil {
		n.log.Warn("the service manager could not be told how the server is", "err", err)
	}
}

func (n *Notifier) send(text string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conn != nil {
		if n.write(text) == nil {
			return nil
		}
		n.conn.Close() // the service manager may have made its socket anew
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

// Ready says that everything listens; status is for a person, without names of peers.
func (n *Notifier) Ready(status string) { n.notify("READY=1", "STATUS="+status) }

// Reloading begins what the next Ready ends. systemd compares the time with
// that of its own request.
func (n *Notifier) Reloading() {
	n.notify("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", monotonic().Microseconds()), "STATUS=Reads certificates again.")
}

// Watchdog is the sign of life that the watchdog waits for, with a status as of Ready.
func (n *Notifier) Watchdog(status string) { n.notify("WATCHDOG=1", "STATUS="+status) }

// StatusStopping is the status of a server that stops.
const StatusStopping = "Stops: answers who waits, lets posts finish."

// Stopping says that the end has begun and takes up to d.
func (n *Notifier) Stopping(d time.Duration) {
	n.notify("STOPPING=1", "STATUS="+StatusStopping, extendTimeout(d))
}

// ExtendTimeout asks for so much time from now on, when a start or an end takes
// longer than usual. It has to be said before the time granted is over.
func (n *Notifier) ExtendTimeout(d time.Duration) { n.notify(extendTimeout(d)) }

func extendTimeout(d time.Duration) string {
	return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds())
}

// maxWatchdogInterval is about thirty years: more is a slip, and could overflow a Duration.
const maxWatchdogInterval = 1_000_000_000 * time.Second

// WatchdogInterval is how often the service manager wants a sign of life at least;
// zero when it wants none, or from another process than pid.
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
