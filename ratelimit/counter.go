package ratelimit

import "sync"

// counter counts what each key holds at the moment. It has no entry for zero,
// so it is as small as what is held, which something else bounds.
type counter struct {
	mu    *sync.Mutex
	count map[key]int
}

func newCounter() counter { return counter{new(sync.Mutex), make(map[key]int)} }

// add counts one more and returns how many it is now.
func (c counter) add(k key) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count[k]++
	return c.count[k]
}

func (c counter) release(k key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count[k]--; c.count[k] <= 0 {
		delete(c.count, k)
	}
}
