package pacer

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurnsAreGivenInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, began := New(10), time.Now()
		if !p.Now() || p.Now() {
			t.Fatal("want one turn at once")
		}
		var mu sync.Mutex
		var order []int
		for i := range 3 {
			go func() {
				if !p.Wait(t.Context()) {
					t.Errorf("%d: no turn", i)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
				if took, want := time.Since(began), time.Duration(i+1)*100*time.Millisecond; took != want {
					t.Errorf("turn %d after %v, want %v", i, took, want)
				}
			}()
			synctest.Wait()
		}
		if p.Now() {
			t.Error("a turn while others wait")
		}
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(order) != 3 || order[0] != 0 || order[2] != 2 {
			t.Errorf("got order %v", order)
		}
		if !p.Now() {
			t.Error("no turn after all waiters had theirs")
		}
	})
}

// A turn that is not waited for any more delays nobody, also if all of those in front leave.
func TestCanceledWaitsCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, began := New(10), time.Now()
		p.Now()
		ctx, cancel := context.WithCancel(t.Context())
		for range 100 {
			go func() {
				if p.Wait(ctx) {
					t.Error("got a turn, want the end of the context")
				}
			}()
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		if !p.Wait(t.Context()) || time.Since(began) != 100*time.Millisecond {
			t.Errorf("a turn after %v, want 100ms", time.Since(began))
		}
		if p.waiting.Len() != 0 {
			t.Errorf("%d still wait", p.waiting.Len())
		}
	})
}
