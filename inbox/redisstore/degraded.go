package redisstore

import (
	"sync"
	"time"
)

const (
	// replicaTimeout bounds the wait of a step for replicas. Together with the step
	// itself it must fit into callTimeout.
	replicaTimeout = 600 * time.Millisecond
	// degradedReplicaTimeout replaces replicaTimeout while replicas are known to be too
	// few, so that most steps fail fast; see degradedParts.
	degradedReplicaTimeout = 50 * time.Millisecond
	// maxReplicaWaits bounds the concurrent waits for replicas. Each has its own
	// connection, because WAIT blocks all later commands on a connection.
	maxReplicaWaits = 64
	// slotTimeout bounds the wait for such a connection.
	slotTimeout = 300 * time.Millisecond
)

// degradedParts records which parts of the store have too few replicas. In a cluster a
// part is a bucket, because each master has its own replicas; otherwise the store is
// the single part 0.
type degradedParts struct {
	mu      sync.Mutex
	parts   map[int]bool
	probing bool // whether a step tests if a degraded part has recovered
}

// replicaWait is the wait of one step for the replicas of a part.
type replicaWait struct {
	part    int
	timeout time.Duration
	isProbe bool
}

// begin returns how long a step waits. While a part is degraded, one step at a time
// waits long enough for distant replicas; the others wait briefly.
func (d *degradedParts) begin(part int) replicaWait {
	d.mu.Lock()
	defer d.mu.Unlock()
	tooFew := d.parts[part]
	if tooFew && d.probing {
		return replicaWait{part, degradedReplicaTimeout, false}
	}
	d.probing = d.probing || tooFew
	return replicaWait{part, replicaTimeout, tooFew}
}

// end records the result of a wait. It reports whether the first part became degraded
// or the last one recovered. A failed brief wait proves nothing.
func (d *degradedParts) end(w replicaWait, tooFew, gaveUp bool) (changed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := len(d.parts)
	if w.isProbe {
		d.probing = false
	}
	switch {
	case gaveUp:
	case !tooFew:
		delete(d.parts, w.part)
	case w.timeout == replicaTimeout:
		d.parts[w.part] = true
	}
	return (before == 0) != (len(d.parts) == 0)
}
