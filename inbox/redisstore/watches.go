package redisstore

import (
	"context"
	"sync"
	"time"
)

const (
	// keepsPerTimeout is how often a watch is renewed within the timeout of its claim,
	// so that one renewal can fail.
	keepsPerTimeout = 3
	// watchesPerCall are renewed by one script, which then takes well below a
	// millisecond, and callsPerPipeline scripts are sent at once.
	watchesPerCall   = 64
	callsPerPipeline = 16
	// wakeBatch is the number of waiting Puts that recheck wakes before it pauses for
	// wakePause: at most 20,000 per second, which a single server can handle.
	wakeBatch = 200
	wakePause = 10 * time.Millisecond
)

// watches are the watches of this process, and its Puts that wait for a claim.
type watches struct {
	mu      sync.Mutex
	lastSeq uint64
	byTag   map[string][]*watch
	steps   []watchStep   // to take at the store, in this order
	scan    bool          // look for due watches at once
	wanted  chan struct{} // has a token when there are steps, or scan is set
}

// watch is one watch, or one waiting Put. The mutex of watches guards due and
// registered.
type watch struct {
	sess       *session
	loc        location
	epoch      uint64
	receiver   uint64
	seq        uint64 // increasing; a supersede message applies to watches up to a seq
	isPut      bool   // a Put, which is woken but not superseded
	notify     func(error)
	live       bool
	registered bool
	due        time.Time // when it is renewed
}

// watchStep is a step of mailbox.lua for one watch.
type watchStep struct {
	*watch
	mode string
}

// Modes of a step; see mailbox.lua.
const (
	watchNew  = "new"
	watchKeep = "keep"
	watchStop = "stop"
)

func (ws *watches) init() {
	ws.byTag, ws.wanted = map[string][]*watch{}, make(chan struct{}, 1)
}

func (ws *watches) addPut(loc location, notify func(error)) *watch {
	w := &watch{loc: loc, isPut: true, notify: notify}
	ws.add(w, "")
	return w
}

func (ws *watches) add(w *watch, mode string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.lastSeq++
	w.seq, w.live = ws.lastSeq, true
	ws.byTag[w.loc.tag] = append(ws.byTag[w.loc.tag], w)
	if mode != "" {
		ws.queueLocked(w, mode)
	}
}

func (ws *watches) queueLocked(w *watch, mode string) {
	w.due = time.Time{}
	ws.steps = append(ws.steps, watchStep{w, mode})
	signal(ws.wanted)
}

// stop removes w and restarts the timeout of its claim. The store knows one watch of a
// mailbox: if that was w, another one of this node takes its place.
func (ws *watches) stop(w *watch) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if !w.live {
		return
	}
	ws.removeLocked(w)
	ws.queueLocked(w, watchStop)
	for _, other := range ws.byTag[w.loc.tag] {
		if !other.isPut {
			ws.queueLocked(other, watchKeep)
		}
	}
}

func (ws *watches) remove(w *watch) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.removeLocked(w)
}

func (ws *watches) removeLocked(w *watch) {
	w.live = false
	rest := ws.byTag[w.loc.tag]
	for i, other := range rest {
		if other == w {
			rest = append(rest[:i:i], rest[i+1:]...)
			break
		}
	}
	if len(rest) == 0 {
		delete(ws.byTag, w.loc.tag)
	} else {
		ws.byTag[w.loc.tag] = rest
	}
}

// wake notifies the watches of a mailbox, and the Puts that wait for it.
func (ws *watches) wake(tag string) {
	ws.mu.Lock()
	all := ws.byTag[tag] // its elements do not change
	ws.mu.Unlock()
	for _, w := range all {
		w.notify(nil)
	}
}

// end ends those watches of a mailbox to which the reason applies.
func (ws *watches) end(tag string, reason error, applies func(*watch) bool) {
	ws.mu.Lock()
	var ended []*watch
	for _, w := range ws.byTag[tag] {
		if !w.isPut && applies(w) {
			ended = append(ended, w)
		}
	}
	for _, w := range ended {
		ws.removeLocked(w)
	}
	ws.mu.Unlock()
	for _, w := range ended {
		w.notify(reason)
	}
}

// endAll ends the watches of other sessions than sess.
func (ws *watches) endAll(sess *session, reason error) {
	for tag := range ws.snapshot() {
		ws.end(tag, reason, func(w *watch) bool { return w.sess != sess })
	}
}

func (ws *watches) snapshot() map[string][]*watch {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	all := make(map[string][]*watch, len(ws.byTag))
	for tag, some := range ws.byTag {
		all[tag] = some
	}
	return all
}

// recheck makes all watches due, which notifies those that missed a message, and wakes
// all Puts that wait, in batches, until ctx ends.
func (ws *watches) recheck(ctx context.Context) {
	var puts []*watch
	ws.mu.Lock()
	for _, some := range ws.byTag {
		for _, w := range some {
			w.due = time.Time{}
			if w.isPut {
				puts = append(puts, w)
			}
		}
	}
	ws.scan = true
	ws.mu.Unlock()
	signal(ws.wanted)
	for i, w := range puts {
		if i%wakeBatch == wakeBatch-1 {
			pause(ctx, wakePause)
		}
		if ctx.Err() != nil {
			return
		}
		w.notify(nil)
	}
}

// takeDue returns the steps to take now, by bucket and in order. It looks for due
// watches only if scan is set, because that takes time for each watch.
func (ws *watches) takeDue(now time.Time, scan bool) map[int][]watchStep {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	byBucket := map[int][]watchStep{}
	take := func(w *watch, mode string) {
		byBucket[w.loc.bucket] = append(byBucket[w.loc.bucket], watchStep{w, mode})
	}
	for _, step := range ws.steps {
		if step.live || step.mode == watchStop {
			take(step.watch, step.mode)
			step.due = now // not twice
		}
	}
	ws.steps = nil
	if scan = scan || ws.scan; !scan {
		return byBucket
	}
	ws.scan = false
	for _, some := range ws.byTag {
		for _, w := range some {
			if !w.isPut && w.due.Before(now) {
				mode := watchKeep
				if !w.registered {
					mode = watchNew
				}
				take(w, mode)
			}
		}
	}
	return byBucket
}

func (ws *watches) reschedule(batch []watchStep, after time.Duration, registered bool) {
	due := time.Now().Add(after)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, step := range batch {
		step.due = due
		step.registered = step.registered || registered
	}
}
