package ratelimit

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

func TestLoginThrottle(t *testing.T) {
	p := newLoginThrottle(Budget{PerSecond: 0.1, Burst: 10}, time.Minute, 100)
	owner, attacker, other, otherOwner := ip4(1), ip4(2), ip4(3), ip4(4)
	p.succeeded(owner, "bob", at(0))
	p.succeeded(otherOwner, "another name", at(0))
	for range 10 {
		if !p.allow(attacker, "bob", at(0)).OK {
			t.Fatal("refused within the budget")
		}
		p.failed(attacker, "bob", at(0))
	}
	for _, row := range []struct {
		what string
		addr netip.Addr
		name string
		at   float64
		want bool
	}{
		{"the attacker", attacker, "bob", 0, false},
		{"the attacker, another name", attacker, "carol", 0, false},
		{"another address, the name", other, "bob", 0, false},
		{"the owner of another name", otherOwner, "bob", 0, false},
		{"another address, another name", other, "carol", 0, true},
		{"the owner", owner, "bob", 0, true},
		{"the owner, after its record expired", owner, "bob", 61, true},
		{"the attacker, after a token was refilled", attacker, "bob", 10, true},
	} {
		if got := p.allow(row.addr, row.name, at(row.at)); got.OK != row.want {
			t.Errorf("%s: got %+v, want %v", row.what, got, row.want)
		}
	}
}

func TestOwnerExpires(t *testing.T) {
	p := newLoginThrottle(Budget{PerSecond: 0.0001, Burst: 1}, time.Minute, 100)
	p.succeeded(ip4(1), "bob", at(0))
	p.failed(ip4(2), "bob", at(0))
	for _, row := range []struct {
		at   float64
		want bool
	}{{59, true}, {60, false}, {1000, false}} {
		if got := p.allow(ip4(1), "bob", at(row.at)).OK; got != row.want {
			t.Errorf("%v s after: got %v, want %v", row.at, got, row.want)
		}
	}
	p.succeeded(ip4(1), "bob", at(100))
	p.succeeded(ip4(1), "bob", at(161))
	if !p.allow(ip4(1), "bob", at(220)).OK {
		t.Error("an owner that logged in again was forgotten")
	}
	p.succeeded(ip4(3), "another name", at(300)) // starts a generation
	p.succeeded(ip4(1), "bob", at(330))
	p.succeeded(ip4(3), "another name", at(360)) // and the next
	if !p.allow(ip4(1), "bob", at(380)).OK {
		t.Error("an owner was dropped with older ones")
	}
}

func TestOwnersAreBounded(t *testing.T) {
	p := newLoginThrottle(Budget{PerSecond: 1, Burst: 1}, time.Minute, 100)
	for i := range 10000 {
		p.succeeded(ip4(i), fmt.Sprint(i), at(float64(i)/100))
	}
	if n := len(p.owners.young) + len(p.owners.old); n > 100 {
		t.Errorf("got %d owners remembered, want at most 100", n)
	}
}

// A client that fills the table with its own names must not displace other owners.
func TestAttackerDoesNotEvictOwners(t *testing.T) {
	p := newLoginThrottle(Budget{PerSecond: 0.0001, Burst: 1}, time.Minute, 100)
	p.succeeded(ip4(1), "bob", at(0))
	p.failed(ip4(2), "bob", at(0))
	for step := range 20 {
		now := float64(20 * step)
		for i := range 1000 {
			p.succeeded(ip4(3), fmt.Sprint(step, "-", i), at(now))
		}
		p.succeeded(ip4(1), "bob", at(now+1))
		if !p.allow(ip4(1), "bob", at(now+2)).OK {
			t.Fatalf("after %d s the owner is locked out", 20*step)
		}
	}
	if n := len(p.owners.young) + len(p.owners.old); n > 100 {
		t.Errorf("got %d owners remembered, want at most 100", n)
	}
}

func TestAttemptLimiter(t *testing.T) {
	budget := Budget{PerSecond: 0.001, Burst: 2}
	limits := AttemptLimits{
		WrongPasswords: budget, NewNames: budget, UnknownRecipients: budget, NewCodes: budget, UnknownCodes: budget,
		OwnerTTL: time.Minute, MaxOwners: 100,
	}
	for a, limit := range map[Attempt]string{
		WrongPassword: "passwords", NewName: "names", UnknownRecipient: "misses", NewCode: "new-codes", UnknownCode: "codes",
	} {
		l := NewAttemptLimiter(limits, new(ClientIP).Addr)
		client, other := &http.Request{RemoteAddr: "192.0.2.1:1"}, &http.Request{RemoteAddr: "192.0.2.2:1"}
		for range 2 {
			if err := l.Allow(client, a, "bob"); err != nil {
				t.Fatalf("%s: got %v within the budget", limit, err)
			}
			l.Failed(client, a, "bob")
		}
		var refusal *Refusal
		if err := l.Allow(client, a, "bob"); !errors.As(err, &refusal) || refusal.Limit != limit ||
			refusal.Quota != 2 || refusal.Window != 2000*time.Second || refusal.Wait <= 0 || refusal.Detail == "" {
			t.Errorf("%s: got %+v, want a refusal", limit, refusal)
		}
		if err := l.Allow(other, a, "carol"); err != nil {
			t.Errorf("%s: got %v for another client", limit, err)
		}
		for kind := range numAttempts {
			if err := l.Allow(client, kind, "carol"); (err != nil) != (kind == a) {
				t.Errorf("%s: got %v for attempt %d", limit, err, kind)
			}
		}
		if got := l.Refused(a); got != 2 {
			t.Errorf("%s: got %d refused, want 2", limit, got)
		}
		if l.Sweep(time.Now().Add(time.Hour)); a != WrongPassword && l.others[a].Len() > 1 {
			t.Errorf("%s: %d addresses left after a sweep", limit, l.others[a].Len())
		}
	}
}

func TestAttemptLimiterDryRunAndOff(t *testing.T) {
	for name, row := range map[string]struct {
		limits  AttemptLimits
		refused int64
	}{
		"dry run": {AttemptLimits{WrongPasswords: Budget{PerSecond: 0.001, Burst: 1}, DryRun: true}, 2},
		"off":     {AttemptLimits{}, 0},
	} {
		l := NewAttemptLimiter(row.limits, new(ClientIP).Addr)
		r := &http.Request{RemoteAddr: "192.0.2.1:1"}
		for range 3 {
			if err := l.Allow(r, WrongPassword, "bob"); err != nil {
				t.Errorf("%s: got %v", name, err)
			}
			l.Failed(r, WrongPassword, "bob")
		}
		if got := l.Refused(WrongPassword); got != row.refused {
			t.Errorf("%s: got %d refused, want %d", name, got, row.refused)
		}
	}
}
