package config

import (
	"errors"
	"fmt"

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

// resolvePoll determines how long a poll waits. A poll must end well before its inbox
// expires, so the default is lowered to fit -inbox-timeout; an explicit value that does
// not fit is an error.
func (r *resolver) resolvePoll() error {
	if !r.o.longPolling {
		return nil
	}
	wait, expiry := r.o.pollTimeout, r.o.inboxTimeout
	if r.o.from["poll-timeout"] == "" {
		wait = min(wait, expiry/2)
	}
	if wait >= expiry {
		return r.o.optionError("poll-timeout", fmt.Errorf("must be less than -inbox-timeout (%s), or an inbox "+
			"would expire while its owner polls", units.Seconds.Format(int64(r.o.inboxTimeout))))
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
	r.c.CleanupInterval = o.cleanupInterval
	r.c.Mailboxes = inbox.Limits{
		Timeout:                o.inboxTimeout,
		Capacity:               int(o.inboxCapacity),
		MaxInboxes:             int(o.maxInboxes),
		MaxQueuedBytes:         queuedBytes,
		MaxInboxesPerPayer:     int(o.maxInboxesPerIP),
		MaxQueuedBytesPerPayer: o.maxQueuedBytesPerIP,
	}
}
