package server

import "time"

// Timeouts bound the phases of a connection, and of the shutdown.
type Timeouts struct {
	Header, Body, Idle, Write time.Duration
	Shutdown                  time.Duration // for in-flight posts during shutdown
	Drain                     time.Duration // part of Shutdown, for requests still in transit
	SaveStall                 time.Duration // without progress on disk while mailboxes are saved
	Save                      time.Duration // for saving all mailboxes
}

const (
	// idleTimeoutTLS is the idle timeout of TLS connections. It is also how long net/http can
	// retain the memory of a closed HTTP/2 connection.
	idleTimeoutTLS = 30 * time.Second
	// stopMargin is the part of the shutdown time that is not for posts.
	stopMargin = 10 * time.Second
	// saveMargin is added to the stall timeout when asking the service manager for time,
	// so that the error of a failed save is still reported.
	saveMargin = 15 * time.Second
	// closeTimeout bounds how long closing the connections can delay the exit.
	closeTimeout = time.Second
)

// DefaultTimeouts returns the timeouts of a server that clients reach over the internet.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Header:   10 * time.Second,
		Body:     30 * time.Second,
		Idle:     2 * time.Minute,
		Write:    30 * time.Second,
		Shutdown: 10 * time.Second,
		// Twice the round trip to a distant phone.
		Drain:     500 * time.Millisecond,
		SaveStall: 45 * time.Second,
		// Enough for 4 GiB at 5 MB/s.
		Save: 15 * time.Minute,
	}
}

// idle returns the idle timeout. It is lower over TLS: proxies need a long one, but rarely
// use TLS to the server.
func (t Timeouts) idle(overTLS bool) time.Duration {
	if overTLS {
		return min(t.Idle, idleTimeoutTLS)
	}
	return t.Idle
}
