package ratelimit

import "sync"

// counter counts what each key holds at the moment. It has no entry for zero,
// so it is as small as what is held, which something else bounds.
type counter struct {
	mu    *sync.Mutex
	count map[key]int
}

func newCounter() counter { return counter{new(sync.Mutex), make(map[key]int)} }

// enter counts one more for an address and its network, and reports whether
// the address has more than limit now, or the network more than its share; zero
// is no limit.
func (c counter) enter(keys [2]key, limit int) (tooMany bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		if k == (key{}) {
			continue
		}
		keyLimit := limit
		if k.isNetwork() {
			keyLimit *= networkFactor
		}
		c.count[k]++
		tooMany = tooMany || exceeds(c.count[k], keyLimit)
	}
	return tooMany
}

func (c counter) leave(keys [2]key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		if k == (key{}) {
			continue
		}
		if c.count[k]--; c.count[k] <= 0 {
			delete(c.count, k)
		}
	}
}
