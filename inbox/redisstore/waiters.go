package redisstore

import (
	"context"
	"sync"
	"time"
)

const (
	// wakeBatch waiters are told at once that the store is back, with a pause
	// before the next: 20,000 a second, which a store that is alone can answer.
	wakeBatch = 200
	wakePause = 10 * time.Millisecond
)

// waiters are the calls of this process that wait for something to happen to a
// mailbox. Whoever holds requests bounds their number.
type waiters struct {
	mu      sync.Mutex
	lastSeq uint64
	byTag   map[string][]*waiter
}

// waiter is one call. Its channel has room for one: what happens while it
// looks makes it look once more.
type waiter struct {
	tag        string
	seq        uint64 // grows with each; tells the store's news of an older one apart
	isPut      bool   // it is a Put, which no poll supersedes
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

// wake makes all who wait for that mailbox look again.
func (ws *waiters) wake(tag string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.byTag[tag] {
		w.wake()
	}
}

// supersede ends the polls of that mailbox that registered with seq or before.
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

// wakeAll makes everybody look again, a few at a time, until ctx ends.
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
