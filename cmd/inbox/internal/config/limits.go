package config

import (
	"fmt"
	"math"

	"inbox/inbox"
)

// maxSeconds is about thirty years. A larger value is a mistake, and could overflow a
// Duration.
const maxSeconds = 1_000_000_000

func (r *resolver) checkNumbers() error {
	o := r.o
	for _, limit := range []struct {
		name        string
		value       int64
		least, most int64
	}{
		{"inbox-timeout", o.inboxTimeout, 1, maxSeconds},
		{"inbox-capacity", o.inboxCapacity, 0, math.MaxInt32},
		{"cleanup-interval", o.cleanupInterval, 1, maxSeconds},
		{"poll-timeout", o.pollTimeout, 0, maxSeconds},
		{"max-body-size", o.maxBodySize, 1, math.MaxInt32},
		{"max-header-size", o.maxHeaderSize, 1, 1 << 30},
		{"max-inboxes", o.maxInboxes, 0, math.MaxInt32},
		{"max-inboxes-per-ip", o.maxInboxesPerIP, 0, math.MaxInt32},
		{"max-queued-bytes-per-ip", o.maxQueuedBytesPerIP, 0, math.MaxInt64},
		{"max-conns-per-ip", o.maxConnsPerIP, 0, math.MaxInt32},
		{"conn-rate", o.connRate, 0, math.MaxInt32},
		{"rate", o.rate, 0, math.MaxInt32},
		{"burst", o.burst, 1, math.MaxInt32},
		{"turn-rate", o.turnRate, 0, maxTURNRate},
		{"turn-month", o.turnMonth, 0, maxTURNMonth},
	} {
		if limit.value < limit.least || limit.value > limit.most {
			return o.optionError(limit.name, fmt.Errorf("must be from %d to %d", limit.least, limit.most))
		}
	}
	return nil
}

// checkQueue rejects a queue that can never have room for the largest message.
func (r *resolver) checkQueue() error {
	o := r.o
	for name, size := range map[string]int64{"max-queued-bytes": o.maxQueuedBytes, "max-queued-bytes-per-ip": o.maxQueuedBytesPerIP} {
		if o.from[name] != "" && 0 < size && size < o.maxBodySize {
			return o.optionError(name, fmt.Errorf("must be 0, or at least -max-body-size (%d), or the "+
				"largest message would never fit", o.maxBodySize))
		}
	}
	return nil
}

// resolvePoll determines how long a poll waits. A poll must end well before its inbox
// expires, so the default is lowered to fit -inbox-timeout; an explicit value that does
// not fit is an error.
func (r *resolver) resolvePoll() error {
	if !r.o.longPolling {
		return nil
	}
	wait, expiry := seconds(r.o.pollTimeout), seconds(r.o.inboxTimeout)
	if r.o.from["poll-timeout"] == "" {
		wait = min(wait, expiry/2)
	}
	if wait >= expiry {
		return r.o.optionError("poll-timeout", fmt.Errorf("must be less than -inbox-timeout (%d), or an inbox "+
			"would expire while its owner polls", r.o.inboxTimeout))
	}
	r.c.PollTimeout = wait
	return nil
}

// resolveLimits converts the limits and replaces auto values.
func (r *resolver) resolveLimits() {
	const (
		queued       = 256 << 20
		bytesPerConn = 64 << 10 // of a connection with TLS and HTTP/2, buffers included
		fallbackMax  = 1 << 20  // if neither memory nor files are known
	)
	files := divideFiles(r.facts.OpenFiles, r.c.PagesDir != "")
	o, memory, queuedBytes, conns := r.o, r.o.maxMemory, r.o.maxQueuedBytes, r.o.maxConns
	if memory == auto {
		memory = r.facts.MemoryBytes / 4 * 3
	}
	if queuedBytes == auto {
		if queuedBytes = queued; memory > 0 {
			queuedBytes = min(queued, memory/3)
		}
	}
	if conns == auto {
		if conns = fallbackMax; memory > 0 {
			conns = max(1, min(conns, memory/3/bytesPerConn))
		}
		if files.Conns > 0 {
			conns = min(conns, files.Conns)
		}
	}
	r.c.Files = files
	r.c.MaxMemoryBytes, r.c.MaxBodyBytes, r.c.MaxHeaderBytes = memory, o.maxBodySize, o.maxHeaderSize
	r.c.MaxConns, r.c.MaxConnsPerIP, r.c.ConnRate = int(conns), int(o.maxConnsPerIP), int(o.connRate)
	r.c.Rate, r.c.Burst, r.c.DryRun = int(o.rate), int(o.burst), o.rateDryRun
	r.c.CleanupInterval = seconds(o.cleanupInterval)
	r.c.Mailboxes = inbox.Limits{
		Timeout:                seconds(o.inboxTimeout),
		Capacity:               int(o.inboxCapacity),
		MaxInboxes:             int(o.maxInboxes),
		MaxQueuedBytes:         queuedBytes,
		MaxInboxesPerPayer:     int(o.maxInboxesPerIP),
		MaxQueuedBytesPerPayer: o.maxQueuedBytesPerIP,
	}
}
