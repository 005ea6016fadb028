package ratelimit

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestLoginThrottle(t *testing.T) {
	p := NewLoginThrottle(Budget{PerSecond: 0.1, Burst: 10}, time.Minute, 100)
	owner, stranger, other, neighbour := ip4(1), ip4(2), ip4(3), ip4(4)
	p.Succeeded(owner, "bob", at(0))
	p.Succeeded(neighbour, "another name", at(0))
	for range 10 {
		if !p.Allow(stranger, "bob", at(0)).OK {
			t.Fatal("refused within the budget")
		}
		p.Failed(stranger, "bob", at(0))
	}
	for _, row := range []struct {
		what string
		addr netip.Addr
		name string
		at   float64
		want bool
	}{
		{"the stranger", stranger, "bob", 0, false},
		{"the stranger at another name", stranger, "carol", 0, false},
		{"another address at the name", other, "bob", 0, false},
		{"the owner of another name", neighbour, "bob", 0, false},
		{"another address at another name", other, "carol", 0, true},
		{"the owner", owner, "bob", 0, true},
		{"the owner, long after", owner, "bob", 61, true},
		{"the stranger after a token came", stranger, "bob", 10, true},
	} {
		if got := p.Allow(row.addr, row.name, at(row.at)); got.OK != row.want {
			t.Errorf("%s: got %+v, want %v", row.what, got, row.want)
		}
	}
	if p.Refused() != 4 {
		t.Errorf("got %d refused, want 4", p.Refused())
	}
}

func TestOwnerIsForgotten(t *testing.T) {
	p := NewLoginThrottle(Budget{PerSecond: 0.0001, Burst: 1}, time.Minute, 100)
	p.Succeeded(ip4(1), "bob", at(0))
	p.Failed(ip4(2), "bob", at(0))
	for _, row := range []struct {
		at   float64
		want bool
	}{{59, true}, {60, false}, {1000, false}} {
		if got := p.Allow(ip4(1), "bob", at(row.at)).OK; got != row.want {
			t.Errorf("%v s after: got %v, want %v", row.at, got, row.want)
		}
	}
	p.Succeeded(ip4(1), "bob", at(100))
	p.Succeeded(ip4(1), "bob", at(161))
	if !p.Allow(ip4(1), "bob", at(220)).OK {
		t.Error("an owner that keeps coming was forgotten")
	}
	p.Succeeded(ip4(3), "another name", at(300)) // begins a generation
	p.Succeeded(ip4(1), "bob", at(330))
	p.Succeeded(ip4(3), "another name", at(360)) // and the next
	if !p.Allow(ip4(1), "bob", at(380)).OK {
		t.Error("an owner was forgotten with those who came long before")
	}
}

func TestOwnersAreBounded(t *testing.T) {
	p := NewLoginThrottle(Budget{PerSecond: 1, Burst: 1}, time.Minute, 100)
	for i := range 10000 {
		p.Succeeded(ip4(i), fmt.Sprint(i), at(float64(i)/100))
	}
	if n := len(p.owners.young) + len(p.owners.old); n > 100 {
		t.Errorf("got %d owners remembered, want at most 100", n)
	}
}

// TestStrangersDoNotEvictOwners: whoever fills the table with names of his own keeps
// nobody from being known on.
func TestStrangersDoNotEvictOwners(t *testing.T) {
	p := NewLoginThrottle(Budget{PerSecond: 0.0001, Burst: 1}, time.Minute, 100)
	p.Succeeded(ip4(1), "bob", at(0))
	p.Failed(ip4(2), "bob", at(0))
	for step := range 20 {
		now := float64(20 * step)
		for i := range 1000 {
			p.Succeeded(ip4(3), fmt.Sprint(step, "-", i), at(now))
		}
		p.Succeeded(ip4(1), "bob", at(now+1))
		if !p.Allow(ip4(1), "bob", at(now+2)).OK {
			t.Fatalf("after %d s the owner is locked out", 20*step)
		}
	}
	if n := len(p.owners.young) + len(p.owners.old); n > 100 {
		t.Errorf("got %d owners remembered, want at most 100", n)
	}
}
