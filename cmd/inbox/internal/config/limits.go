package config

import (
	"errors"
	"fmt"
	"time"

	"inbox/cmd/inbox/internal/units"
	"inbox/inbox"
)

// checkQueue rejects a queue that can never have room for the largest message.
func (r *resolver) checkQueue() error {
	o := r.o
	check := func(name string, size int64) error {
		if o.from[name] == "" || size <= 0 || size >= o.maxBodySize {
			return nil
		}
		return o.optionError(name, fmt.Errorf("must be 0, or at least -max-body-size (%d), or the "+
			"largest message would never fit", o.maxBodySize))
	}
	return errors.Join(check("max-queued-bytes", o.maxQueuedBytes), check("max-queued-bytes-per-ip", o.maxQueuedBytesPerIP))
}

// minHeartbeat is how often streams of a server with a low -poll-timeout show that they are alive. A
// proxy that ends requests sooner is too strict for streams, and their clients poll.
const minHeartbeat = 5 * time.Second

// resolvePoll determines how long a poll waits, and how often streams show that they are alive: as
// often as an explicit -poll-timeout, which is that of a proxy in front, asks for. A poll must end
// well before its inbox expires, so the default is lowered to fit -inbox-timeout; an explicit value
// that does not fit is an error.
func (r *resolver) resolvePoll() error {
	if !r.o.longPolling {
		return nil
	}
	wait, expiry := r.o.pollTimeout, r.o.inboxTimeout
	r.c.Heartbeat = inbox.DefaultHeartbeat
	if r.o.from["poll-timeout"] == "" {
		wait = min(wait, expiry/2)
	} else {
		r.c.Heartbeat = min(r.c.Heartbeat, max(wait, minHeartbeat))
	}
	if wait >= expiry {
		return r.o.optionError("poll-timeout", fmt.Errorf("must be less than -inbox-timeout (%s), or an inbox "+
			"would expire while its owner polls", units.Seconds.Format(int64(r.o.inboxTimeout))))
	}
	r.c.PollTimeout = wait
	return nil
}

// What a connection counts for in the memory of connections: what it was measured to use with TLS
// in docs/benchmarks.md, before garbage.
const (
	HTTPConnBytes  = 96 << 10 // HTTP/2 with a request that waits, buffers included
	WebSocketBytes = 16 << 10 // heap and stack, while messages are exchanged; 11 KiB at rest
)

// The parts of the memory. They add up to all of it, although unfinished headers and handshakes need
// a sixteenth and the program another one: a body that is being written is mostly that of a queued
// message, which counts in both parts.
const (
	connParts    = 8 // of twelve
	queuedPart   = 6
	inFlightPart = 6 // bodies that are being read or written
	minInFlight  = 4 // bodies of the maximum size
)

// resolveLimits converts the limits and replaces auto values.
func (r *resolver) resolveLimits() {
	const queued = 256 << 20
	o, memory, queuedBytes := r.o, r.o.maxMemory, r.o.maxQueuedBytes
	if memory == auto {
		memory = r.facts.MemoryBytes / 4 * 3
	}
	if queuedBytes == auto {
		if queuedBytes = queued; memory > 0 {
			queuedBytes = min(queued, memory/queuedPart)
		}
	}
	r.c.MaxInFlightBytes = queuedBytes
	if memory > 0 && queuedBytes > 0 {
		r.c.MaxInFlightBytes = max(minInFlight*o.maxBodySize, min(queuedBytes, memory/inFlightPart))
	}
	r.c.MaxMemoryBytes, r.c.MaxBodyBytes, r.c.MaxHeaderBytes = memory, o.maxBodySize, o.maxHeaderSize
	r.c.MaxConnsPerIP, r.c.ConnRate = int(o.maxConnsPerIP), int(o.connRate)
	r.c.Rate, r.c.Burst, r.c.DryRun = int(o.rate), int(o.burst), o.rateDryRun
	r.c.CleanupInterval = o.cleanupInterval
	r.resolveConns(memory)
	r.c.Mailboxes = inbox.Limits{
		Timeout:                o.inboxTimeout,
		Capacity:               int(o.inboxCapacity),
		MaxInboxes:             int(o.maxInboxes),
		MaxQueuedBytes:         queuedBytes,
		MaxInboxesPerPayer:     int(o.maxInboxesPerIP),
		MaxQueuedBytesPerPayer: o.maxQueuedBytesPerIP,
	}
}

// resolveConns determines how many connections there can be. With auto, the memory for them bounds
// them as well, because a WebSocket uses a sixth of what HTTP/2 can.
func (r *resolver) resolveConns(memory int64) {
	const fallbackMax = 1 << 20 // if neither memory nor files are known
	r.c.Files = divideFiles(r.facts.OpenFiles, r.c.PagesDir != "")
	if r.o.maxConns != auto {
		r.c.MaxConns, r.c.MaxStreams = int(r.o.maxConns), int(r.o.maxConns)
		return
	}
	conns, streams := int64(fallbackMax), int64(fallbackMax)
	if memory > 0 {
		r.c.MaxConnBytes = memory / 12 * connParts
		conns = max(1, min(conns, r.c.MaxConnBytes/WebSocketBytes))
		streams = max(1, min(streams, r.c.MaxConnBytes/HTTPConnBytes))
	}
	if files := r.c.Files.Conns; files > 0 {
		conns = min(conns, files)
	}
	r.c.MaxConns, r.c.MaxStreams = int(conns), int(min(conns, streams))
}
