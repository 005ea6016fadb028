package ratelimit

import "sync"

// counter counts what each key holds. It has no entry for zero, so its size is bounded by
// what is held. The zero value is ready to use.
type counter struct {
	mu    sync.Mutex
	count map[key]int
}

// enter adds one for an address and its network. It reports whether the address then
// exceeds limit or the network its multiple; zero is no limit.
func (c *counter) enter(keys [2]key, limit int) (tooMany bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count = make(map[key]int)
	}
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

func (c *counter) leave(keys [2]key) {
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

// exceeds reports whether n is over a limit, of which zero is none.
func exceeds(n, limit int) bool { return limit > 0 && n > limit }
