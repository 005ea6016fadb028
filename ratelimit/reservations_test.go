package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// roundTrip is how long the tests compare a password.
const roundTrip = 100 * time.Millisecond

func guessLimits(dryRun bool) AttemptLimits {
	return AttemptLimits{
		WrongPasswords: Budget{PerSecond: 0.1, Burst: 10}, NewNames: Budget{PerSecond: 0.1, Burst: 10},
		OwnerTTL: time.Minute, MaxOwners: 100, DryRun: dryRun,
	}
}

func from(addr string) *http.Request { return &http.Request{RemoteAddr: addr} }

// attemptAtOnce makes n attempts that begin together and returns how many were admitted.
func attemptAtOnce(l *AttemptLimiter, a Attempt, name string, n int, fails bool, addr func(i int) string) int64 {
	var wg sync.WaitGroup
	var admitted atomic.Int64
	for i := range n {
		wg.Go(func() {
			r := from(addr(i))
			reserved, err := l.Reserve(r, a, name)
			if err != nil {
				return
			}
			admitted.Add(1)
			time.Sleep(roundTrip)
			switch {
			case fails:
				l.Failed(r, a, name)
			case a == WrongPassword:
				l.Succeeded(r, name)
			}
			if reserved {
				l.Release(r, a, name)
			}
		})
	}
	wg.Wait()
	return admitted.Load()
}

func oneAddr(int) string      { return "192.0.2.1:1" }
func oneNetwork(i int) string { return fmt.Sprintf("192.0.2.%d:1", 1+i) }
func oneIPv6Network(i int) string {
	return fmt.Sprintf("[2001:db8:0:%x::1]:1", i)
}
func manyNetworks(i int) string { return fmt.Sprintf("10.%d.%d.1:1", i/250, i%250) }

// TestAttemptsAtOnce checks that attempts that begin together are limited as if they came
// one after another, and that those that succeed use up nothing.
func TestAttemptsAtOnce(t *testing.T) {
	for _, row := range []struct {
		name    string
		attempt Attempt
		addr    func(int) string
		fails   bool
		n, want int64
	}{
		{"wrong, one address", WrongPassword, oneAddr, true, 200, 10},
		{"wrong, one /24", WrongPassword, oneNetwork, true, 200, 10},
		{"wrong, one /48", WrongPassword, oneIPv6Network, true, 200, 10},
		{"wrong, 500 networks", WrongPassword, manyNetworks, true, 500, 500}, // one per network
		{"right, one address", WrongPassword, oneAddr, false, 100, 100},
		{"right, one /24", WrongPassword, oneNetwork, false, 100, 100},
		{"new names, one address", NewName, oneAddr, true, 200, 10},
		{"new names, one /48", NewName, oneIPv6Network, true, 200, 160},
		{"known names, one address", NewName, oneAddr, false, 100, 100},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := NewAttemptLimiter(guessLimits(false), new(ClientIP).Addr)
				if got := attemptAtOnce(l, row.attempt, "bob", int(row.n), row.fails, row.addr); got != row.want {
					t.Errorf("got %d of %d attempts admitted, want %d", got, row.n, row.want)
				}
				if got := l.Refused(row.attempt); got != row.n-row.want {
					t.Errorf("got %d refused, want %d", got, row.n-row.want)
				}
				for i, n := range []int{len(l.logins.running.running), len(l.running[NewName].running)} {
					if n != 0 {
						t.Errorf("table %d: got %d entries left, want none", i, n)
					}
				}
			})
		})
	}
}

// TestMovingOwnerIsAdmitted checks that no guesses from other networks, however many, lock
// out an owner at an address that the limiter does not know, and that the networks of the
// attackers have no further guess.
func TestMovingOwnerIsAdmitted(t *testing.T) {
	for name, attackers := range map[string]func(int) string{
		"one address": oneAddr, "one /24": oneNetwork, "one /48": oneIPv6Network, "1000 networks": manyNetworks,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := NewAttemptLimiter(guessLimits(false), new(ClientIP).Addr)
				for range 3 {
					attemptAtOnce(l, WrongPassword, "bob", 1000, true, attackers)
				}
				for _, owner := range []string{"198.51.100.1:1", "[2001:db8:ffff::1]:1"} {
					if err := l.Allow(from(owner), WrongPassword, "bob"); err != nil {
						t.Errorf("owner at %s: allow: got %v, want nil", owner, err)
					}
					if got := attemptAtOnce(l, WrongPassword, "bob", 20, false, func(int) string { return owner }); got != 20 {
						t.Errorf("owner at %s: got %d of 20 attempts admitted", owner, got)
					}
				}
				if got := attemptAtOnce(l, WrongPassword, "bob", 100, true, attackers); got > 0 {
					t.Errorf("got %d more guesses compared, want none", got)
				}
			})
		})
	}
}

// TestReserveEnds checks the bounds of the wait for the outcome of others.
func TestReserveEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewAttemptLimiter(guessLimits(false), new(ClientIP).Addr)
		for range 10 {
			if reserved, err := l.Reserve(from(oneAddr(0)), WrongPassword, "bob"); !reserved || err != nil {
				t.Fatalf("got %v, %v, want a reservation", reserved, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := l.Reserve(from(oneAddr(0)).WithContext(ctx), WrongPassword, "bob"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		began := time.Now()
		var refusal *Refusal
		if _, err := l.Reserve(from(oneAddr(0)), WrongPassword, "bob"); !errors.As(err, &refusal) || refusal.Wait <= 0 {
			t.Errorf("got %v, want a refusal", err)
		}
		if took := time.Since(began); took != maxOutcomeWait {
			t.Errorf("got a wait of %v, want %v", took, maxOutcomeWait)
		}
	})
}

func TestReserveDryRunAndOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewAttemptLimiter(guessLimits(true), new(ClientIP).Addr)
		for range 2 {
			if got := attemptAtOnce(l, WrongPassword, "bob", 200, true, oneAddr); got != 200 {
				t.Errorf("dry run: got %d of 200 admitted", got)
			}
		}
		if got := l.Refused(WrongPassword); got != 390 {
			t.Errorf("dry run: got %d refused, want 390", got)
		}
		off := NewAttemptLimiter(AttemptLimits{}, new(ClientIP).Addr)
		if reserved, err := off.Reserve(from(oneAddr(0)), WrongPassword, "bob"); reserved || err != nil {
			t.Errorf("off: got %v, %v, want neither", reserved, err)
		}
	})
}
