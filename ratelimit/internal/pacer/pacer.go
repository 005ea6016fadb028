// Package pacer gives turns at a rate, in the order in which they are asked for.
package pacer

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// Pacer gives turns. Unlike the reservations of a token bucket, a turn of Wait that is not waited
// for any more delays no other. All methods can be called concurrently.
type Pacer struct {
	interval time.Duration

	mu      sync.Mutex
	next    time.Time  // of the next turn
	waiting *list.List // of chan struct{}, which is closed when its turn comes; nil of Reserve
	armed   bool       // give will be called
}

// New returns a pacer that gives so many turns per second.
func New(perSecond float64) *Pacer {
	return &Pacer{interval: time.Duration(float64(time.Second) / perSecond), waiting: list.New()}
}

// Now reports whether there is a turn without waiting, and takes it.
func (p *Pacer) Now() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.waiting.Len() > 0 || now.Before(p.next) {
		return false
	}
	p.next = now.Add(p.interval)
	return true
}

// Wait waits for a turn. It returns false if ctx ends before.
func (p *Pacer) Wait(ctx context.Context) bool {
	turn := make(chan struct{})
	p.mu.Lock()
	e := p.waiting.PushBack(turn)
	p.armLocked()
	p.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		p.waiting.Remove(e) // no effect if the turn was given
		return false
	}
}

// Reserve takes the next turn and returns how long until it comes. There is no way back.
func (p *Pacer) Reserve() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.waiting.Len() == 0 && !now.Before(p.next) {
		p.next = now.Add(p.interval)
		return 0
	}
	turn := p.next.Add(time.Duration(p.waiting.Len()) * p.interval)
	p.waiting.PushBack((chan struct{})(nil))
	p.armLocked()
	return turn.Sub(now)
}

// give gives all turns that are due, since timers are late by more than an interval, and
// continues while anybody waits.
func (p *Pacer) give() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = false
	now := time.Now()
	for e := p.waiting.Front(); e != nil && !now.Before(p.next); e = p.waiting.Front() {
		if turn := p.waiting.Remove(e).(chan struct{}); turn != nil {
			close(turn)
		}
		p.next = p.next.Add(p.interval)
	}
	p.armLocked()
}

func (p *Pacer) armLocked() {
	if !p.armed && p.waiting.Len() > 0 {
		p.armed = true
		time.AfterFunc(time.Until(p.next), p.give)
	}
}
