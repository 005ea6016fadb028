package login

import (
	"crypto/sha256"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// TestPasswordLeavesNoTrace checks that the reused memory contains no password.
func TestPasswordLeavesNoTrace(t *testing.T) {
	used := newScratches([]byte("a secret of the test")).New().(*scratch)
	scratches := &sync.Pool{New: func() any { return used }}
	r := httptest.NewRequest("GET", "/inbox", nil)
	r.SetBasicAuth("bob", "builder")
	_, key, err := (&Reader{scratches: scratches}).Read(r, nil)
	if err != nil || key != used.key {
		t.Fatalf("got %v and key %x, want the key in the reused memory", err, key)
	}
	if used.decoded != [len(used.decoded)]byte{} {
		t.Errorf("got %q left", used.decoded)
	}
}

// TestConnectionRemembersShortCredentials checks that a connection remembers the last
// credentials that could be read, unless they are long.
func TestConnectionRemembersShortCredentials(t *testing.T) {
	reader, memory := NewReader([]byte("a secret of the test")), new(Memory)
	r := httptest.NewRequest("GET", "/inbox", nil)
	for _, row := range []struct{ name, password, want string }{
		{"bob", "builder", "bob"},
		{"alice", strings.Repeat("x", 200), "bob"},
		{"alice", "", "bob"},
		{"alice", "rabbit", "alice"},
	} {
		r.SetBasicAuth(row.name, row.password)
		_, key, err := reader.Read(r, memory)
		last := memory.last.Load()
		if last == nil || last.name != row.want || err == nil && last.name == row.name && last.key != key {
			t.Errorf("after %s:%s: got %+v remembered, want %s", row.name, row.password, last, row.want)
		}
	}
}

// TestMemoryHasNoPassword checks that a connection remembers a salted hash.
func TestMemoryHasNoPassword(t *testing.T) {
	r := httptest.NewRequest("GET", "/inbox", nil)
	r.SetBasicAuth("bob", "builder")
	field := r.Header.Get("Authorization")
	secret := []byte("a secret of the test")
	first, second := NewReader(secret), NewReader(secret)
	memory := new(Memory)
	if _, _, err := first.Read(r, memory); err != nil {
		t.Fatal(err)
	}
	last := memory.last.Load()
	if plain := sha256.Sum256([]byte(field)); last.digest == plain || last.digest == second.digestOf(field) {
		t.Error("the hash has no salt of its own")
	}
	if text := fmt.Sprintf("%q", fmt.Sprintf("%+v", *last)); strings.Contains(text, "builder") || strings.Contains(text, field) {
		t.Errorf("got %s, want no password", text)
	}
	// Another reader, with other keys, does not use what the first one remembers.
	if _, _, err := second.Read(r, memory); err != nil || memory.last.Load() == last {
		t.Errorf("got %v, want the memory replaced", err)
	}
}

func BenchmarkRead(b *testing.B) {
	reader, r := NewReader([]byte("a secret of the test")), httptest.NewRequest("GET", "/inbox", nil)
	r.SetBasicAuth("bob", "builder")
	for name, memory := range map[string]*Memory{"new": nil, "remembered": new(Memory)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				reader.Read(r, memory)
			}
		})
	}
}
