package redisstore

import (
	"context"
	"sync"
	"time"
)

const (
	// wakeBatch is the number of waiters that wakeAll wakes before it pauses for
	// wakePause: at most 20,000 per second, which a single server can handle.
	wakeBatch = 200
	wakePause = 10 * time.Millisecond
)

// waiters are the calls of this process that wait for a change of a mailbox. Their
// number is bounded by the caller, which limits waiting requests.
type waiters struct {
	mu      sync.Mutex
	lastSeq uint64
	byTag   map[string][]*waiter
}

// waiter is one waiting call. woken has a buffer of one, so a wake-up during a peek
// causes another peek.
type waiter struct {
	tag        string
	seq        uint64 // increasing; a supersede message applies to waiters up to a seq
	isPut      bool   // a Put, which polls do not supersede
	woken      chan struct{}
	superseded chan struct{}
}

func (ws *waiters) init() { ws.byTag = map[string][]*waiter{} }

func (ws *waiters) add(tag string, isPut bool) *waiter {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.lastSeq++
	w := &waiter{tag: tag, seq: ws.lastSeq, isPut: isPut, woken: make(chan struct{}, 1), superseded: make(chan struct{})}
	ws.byTag[tag] = append(ws.byTag[tag], w)
	return w
}

func (ws *waiters) remove(w *waiter) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.removeLocked(w)
}

func (ws *waiters) removeLocked(w *waiter) {
	rest := ws.byTag[w.tag]
	for i, other := range rest {
		if other == w {
			rest = append(rest[:i:i], rest[i+1:]...)
			break
		}
	}
	if len(rest) == 0 {
		delete(ws.byTag, w.tag)
	} else {
		ws.byTag[w.tag] = rest
	}
}

func (w *waiter) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

// wake makes all waiters of a mailbox look again.
func (ws *waiters) wake(tag string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.byTag[tag] {
		w.wake()
	}
}

// supersede ends the polls of a mailbox that registered with seq or earlier.
func (ws *waiters) supersede(tag string, seq uint64) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.byTag[tag] {
		if !w.isPut && w.seq <= seq {
			close(w.superseded)
			ws.removeLocked(w)
		}
	}
}

// wakeAll makes all waiters look again, in batches, until ctx ends.
func (ws *waiters) wakeAll(ctx context.Context) {
	ws.mu.Lock()
	var all []*waiter
	for _, some := range ws.byTag {
		all = append(all, some...)
	}
	ws.mu.Unlock()
	for i, w := range all {
		if i%wakeBatch == wakeBatch-1 {
			pause(ctx, wakePause)
		}
		if ctx.Err() != nil {
			return
		}
		w.wake()
	}
}
