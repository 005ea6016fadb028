package inbox

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// TestPollsRemoveLeftPolls checks that no slot remains, in whatever order three polls
// of a name leave.
func TestPollsRemoveLeftPolls(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		ps := polls{slots: map[string]pollSlot{}}
		three := []*poll{{name: "bob"}, {name: "bob"}, {name: "bob"}}
		for _, p := range three {
			ps.add(p)
		}
		for _, i := range order {
			ps.leave(three[i])
			ps.leave(three[i]) // a second call does nothing
		}
		if len(ps.slots) != 0 {
			t.Errorf("left as %v: got slots %v, want none", order, ps.slots)
		}
		ps.endAll()
	}
}

// TestConcurrentPolls has polls enter, wait and leave at random: one poll is the holder
// at a time, and no slot remains.
func TestConcurrentPolls(t *testing.T) {
	ps := polls{slots: map[string]pollSlot{}}
	holders := map[string]*sync.Mutex{"bob": {}, "carol": {}}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 500 {
				name := []string{"bob", "carol"}[rand.IntN(2)]
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(200))*time.Microsecond)
				p, err := ps.enter(ctx, name)
				if err == nil {
					if !holders[name].TryLock() {
						t.Error("two polls are holders")
					} else {
						if ctx, err := ps.waitContext(ctx, p); err == nil && rand.IntN(2) == 0 {
							<-ctx.Done()
						}
						holders[name].Unlock()
					}
				}
				ps.leave(p)
				cancel()
			}
		})
	}
	all.Wait()
	if len(ps.slots) != 0 {
		t.Errorf("got slots %v left, want none", ps.slots)
	}
}
