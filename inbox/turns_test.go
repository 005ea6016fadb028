package inbox

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// newTurn returns a receiver of bob that was not opened: a plain long poll.
func newTurn(ts *turns, client Client) *receiver {
	return &receiver{turns: ts, name: "bob", client: client, plain: true, counts: new(receiverCounts)}
}

func newTurns() *turns { return &turns{slots: map[string]turnSlot{}} }

// TestTurnsForgetWhatLeft checks that no slot remains, in whatever order three receivers of a name
// leave. The last one resumes in every second run.
func TestTurnsForgetWhatLeft(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		for run := range 4 {
			ts := newTurns()
			var three []*receiver
			for i := range uint64(3) {
				rc := newTurn(ts, Client{ID: i, Resume: int(i) >= 3-run})
				ts.add(rc)
				three = append(three, rc)
			}
			for _, i := range order {
				three[i].leave()
				three[i].leave() // a second call does nothing
			}
			if len(ts.slots) != 0 {
				t.Errorf("left as %v, %d of them resume: got slots %v, want none", order, run, ts.slots)
			}
			ts.endAll()
		}
	}
}

// TestTurns checks which of the receivers of a name are ended, and why. A receiver is written as
// its client, with r if it resumes, with s once the store has opened the mailbox for it, and with
// w if it then waits.
func TestTurns(t *testing.T) {
	for _, row := range []struct{ receivers, want string }{
		{"1s 2r", "- other"},                   // the one that is answered stays
		{"1w 2r", "- other"},                   // so does the one that waits
		{"1s 1r", "superseded -"},              // a client replaces its own receiver
		{"1w 1r", "superseded -"},              //
		{"1s 2", "superseded -"},               // without resume, the newest wins
		{"1w 2", "superseded -"},               //
		{"1w 2 3", "superseded superseded -"},  //
		{"1 2r", "- -"},                        // undecided: the password of the first can be wrong
		{"1 2r admit", "- other"},              // it was right
		{"1 2r leave", "left -"},               // it was not
		{"1 2r 2r", "- superseded -"},          // the same client again
		{"1 2r 3r admit", "- other other"},     // two that resume
		{"1 2r 3r leave", "left other -"},      //
		{"1 2r 3", "superseded superseded -"},  // a newer one without resume
		{"1 2r 1", "superseded superseded -"},  // also of the first client
		{"1s 2 3r", "superseded - other"},      // one that waits for its turn has the right password
		{"1w 2 3r", "superseded - other"},      //
		{"1s 2 2r", "superseded superseded -"}, //
		{"1 2r stop", "stopping stopping"},     //
		{"1w stop", "stopping"},                //
		{"1s 2 3r stop", "superseded stopping other"},
	} {
		ts := newTurns()
		var all []*receiver
		for _, word := range strings.Fields(row.receivers) {
			switch word {
			case "admit":
				ts.admit(all[0])
			case "leave":
				all[0].leave()
			case "stop":
				ts.endAll()
			default:
				rc := newTurn(ts, Client{ID: uint64(word[0]), Resume: strings.HasSuffix(word, "r")})
				if all = append(all, rc); !ts.tryEnter(rc) {
					rc.admitted = true
					ts.add(rc)
				}
				if strings.HasSuffix(word, "s") || strings.HasSuffix(word, "w") {
					ts.admit(rc)
				}
				if strings.HasSuffix(word, "w") {
					rc.rest(0, false)
				}
			}
		}
		var got []string
		for i, rc := range all {
			text, known := map[error]string{
				nil: "-", ErrSuperseded: "superseded", ErrOtherReceiver: "other", ErrStopping: "stopping",
			}[rc.reason]
			if !known {
				text = rc.reason.Error()
			}
			if i == 0 && strings.HasSuffix(row.receivers, "leave") {
				text = "left"
			}
			got = append(got, text)
		}
		if text := strings.Join(got, " "); text != row.want {
			t.Errorf("%s: got %s, want %s", row.receivers, text, row.want)
		}
	}
}

// TestConcurrentTurns has plain polls enter, wait and leave at random: one is answered at a time,
// and no slot remains.
func TestConcurrentTurns(t *testing.T) {
	ts := newTurns()
	holders := map[string]*sync.Mutex{"bob": {}, "carol": {}}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 500 {
				rc := newTurn(ts, Client{ID: rand.Uint64N(3), Resume: rand.IntN(2) == 0})
				rc.name = []string{"bob", "carol"}[rand.IntN(2)]
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(200))*time.Microsecond)
				if err := ts.enter(ctx, rc); err == nil && !rc.isOver() {
					if !holders[rc.name].TryLock() {
						t.Error("two receivers have the turn")
					} else {
						ts.admit(rc)
						holders[rc.name].Unlock()
						if rand.IntN(2) == 0 && errors.Is(rc.rest(0, false), ErrEmpty) {
							<-ctx.Done()
						}
					}
				}
				rc.leave()
				cancel()
			}
		})
	}
	all.Wait()
	if len(ts.slots) != 0 {
		t.Errorf("got slots %v left, want none", ts.slots)
	}
}
