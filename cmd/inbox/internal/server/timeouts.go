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

// idleTimeoutTLS is the idle timeout of TLS connections. It is also how long net/http can
// retain the memory of a closed HTTP/2 connection.
const idleTimeoutTLS = 30 * time.Second

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
