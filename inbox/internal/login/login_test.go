package login

import (
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
	_, key, err := (&Reader{scratches}).Read(r, nil)
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
