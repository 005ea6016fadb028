package inbox

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestPollsRemoveLeftPolls checks that no slot remains, in whatever order three polls
// of a name leave. The last one resumes in every second run.
func TestPollsRemoveLeftPolls(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		for run := range 4 {
			ps := polls{slots: map[string]pollSlot{}}
			three := []*poll{{name: "bob"}, {name: "bob"}, {name: "bob"}}
			for i, p := range three {
				p.receiver = Receiver{ID: uint64(i), Resume: i >= 3-run}
				ps.add(p)
			}
			for _, i := range order {
				ps.leave(three[i])
				ps.leave(three[i]) // a second call does nothing
			}
			if len(ps.slots) != 0 {
				t.Errorf("left as %v, %d of them resume: got slots %v, want none", order, run, ps.slots)
			}
			ps.endAll()
		}
	}
}

// TestResumingPolls checks which of the polls of a name are ended, and why. A poll is written
// as its receiver, with r if it resumes, and with s once it is settled.
func TestResumingPolls(t *testing.T) {
	for _, row := range []struct{ polls, want string }{
		{"1s 2r", "- other"},                   // the one that waits stays
		{"1s 1r", "superseded -"},              // a receiver replaces its own poll
		{"1s 2", "superseded -"},               // without resume, the newest wins
		{"1 2r", "- -"},                        // undecided: the password of the first can be wrong
		{"1 2r settle", "- other"},             // it was right
		{"1 2r leave", "left -"},               // it was not
		{"1 2r 2r", "- superseded -"},          // the same receiver again
		{"1 2r 3r settle", "- other other"},    // two that resume
		{"1 2r 3r leave", "left other -"},      //
		{"1 2r 3", "superseded superseded -"},  // a newer one without resume
		{"1 2r 1", "superseded superseded -"},  // also of the first receiver
		{"1s 2 3r", "superseded - other"},      // one that waits to be the holder has the right password
		{"1s 2 2r", "superseded superseded -"}, //
		{"1 2r stop", "stopping stopping"},     //
		{"1s 2 3r stop", "superseded stopping other"},
	} {
		ps := polls{slots: map[string]pollSlot{}}
		var all []*poll
		for _, word := range strings.Fields(row.polls) {
			switch word {
			case "settle":
				ps.settle(all[0])
			case "leave":
				ps.leave(all[0])
			case "stop":
				ps.endAll()
			default:
				p := &poll{name: "bob", receiver: Receiver{ID: uint64(word[0]), Resume: strings.HasSuffix(word, "r")}}
				all = append(all, p)
				if ps.add(p); strings.HasSuffix(word, "s") {
					ps.settle(p)
				}
			}
		}
		var got []string
		for i, p := range all {
			text, known := map[error]string{
				nil: "-", ErrSuperseded: "superseded", ErrOtherReceiver: "other", ErrStopping: "stopping",
			}[p.endReason]
			if !known {
				text = p.endReason.Error()
			}
			if i == 0 && strings.HasSuffix(row.polls, "leave") {
				text = "left"
			}
			got = append(got, text)
		}
		if text := strings.Join(got, " "); text != row.want {
			t.Errorf("%s: got %s, want %s", row.polls, text, row.want)
		}
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
				receiver := Receiver{ID: rand.Uint64N(3), Resume: rand.IntN(2) == 0}
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(200))*time.Microsecond)
				p, err := ps.enter(ctx, name, receiver)
				if err == nil {
					if !holders[name].TryLock() {
						t.Error("two polls are holders")
					} else {
						if rand.IntN(2) == 0 {
							ps.settle(p)
						}
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
