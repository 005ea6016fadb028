package limits

import (
	"net/http"
	"time"

	"inbox/ratelimit"
)

// Values that need no option, with the reasons.
const (
	guessBurst         = 10  // a person mistypes a password or a code, and a page retries
	guessRate          = 0.1 // then one guess in 10 s: a four-letter word takes weeks. A new code reveals as much
	newNameBurst       = 60  // new names, new codes and misses: an office that starts its day
	newNameRate        = 1
	newIDBurst         = 250 // new ids of PeerJS, with a connection each, as many as its burst: a page with many peers
	newIDRate          = 10
	heavyRate          = 2000        // requests per second and processor of the addresses that request much: a tenth of the time
	moderateRate       = 2000        // of those that begin to
	connBurst          = 5           // times -conn-rate: a page loads a dozen files, an office reconnects at once
	refusalDelay       = time.Second // of a request: a closed-loop flooder gets one answer in this time
	maxDelayedRefusals = 1024        // refusals delayed at once, a few KiB each
	connTarpit         = time.Second // of a refused connection
	streamsFactor      = 2           // times -max-conns-per-ip over HTTP/2: as many refusals as polls
	framesFactor       = 10          // times -rate and -burst: frames and small records; a request is about four
	maxKnownOwners     = 100_000     // pairs of address and name, about 50 bytes each
	maxHeaderFields    = 100         // of a request; a browser behind proxies sends 15 to 40
	unfinishedPart     = 16          // of the memory: unfinished headers and handshakes
	unfinishedDefault  = 64 << 20    // bytes, if the memory is not known
	minUnfinishedBytes = 32 << 10    // of a client: a header of 14 KiB
)

// lingering bounds the bodies that are read and dropped after a refusal: 8 MB at 5 Mbit/s
// take 13 seconds. 128 connections at their bounds are 140 MB/s.
var lingering = ratelimit.LingeringLimits{
	Timeout: 15 * time.Second, MaxBytes: 16 << 20, Max: 128, MaxPerAddr: 8, BytesPerSecond: 2 << 20, BurstBytes: 64 << 20,
}

// Config has the limits that options set. Zero is no limit.
type Config struct {
	// Rate and Burst bound the requests of an address, per second and at once. Without a
	// Rate, failed attempts are not limited either.
	Rate, Burst int
	// ConnRate bounds the connections that an address opens per second.
	ConnRate int
	// MaxConns bounds the open connections, MaxStreams the HTTP/2 streams, and MaxConnsPerIP
	// both and the polls of an address.
	MaxConns, MaxStreams, MaxConnsPerIP int
	// MaxConnBytes bounds the memory of the open connections, each of which counts for
	// HTTPConnBytes, and for WebSocketBytes if it is a WebSocket.
	MaxConnBytes, HTTPConnBytes, WebSocketBytes int64
	// MaxTarpitted bounds the refused connections that stay open for a moment, and PageFiles
	// the files that pages have open.
	MaxTarpitted, PageFiles int
	// MaxMemoryBytes is the memory of the server. A part of it is for unfinished headers and
	// handshakes.
	MaxMemoryBytes int64
	// MaxHeaderBytes bounds the header of a request.
	MaxHeaderBytes int64
	// OwnerTTL is how long a client that sent the password of a name counts as its owner.
	OwnerTTL time.Duration
	// HandshakeTimeout bounds how long a TLS handshake waits for others of its address.
	HandshakeTimeout time.Duration
	// WriteTimeout is in which a client must receive 64 KiB of a response, or the rest.
	WriteTimeout time.Duration
	// Exempt reports which requests the request rate does not limit.
	Exempt func(*http.Request) bool
	// DryRun counts what the limits per address would refuse, but refuses nothing.
	DryRun bool
}
