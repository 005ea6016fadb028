package inbox

import (
	"net"
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
	_, key, err := readCredentials(r, scratches)
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
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	scratches := newScratches([]byte("a secret of the test"))
	r := httptest.NewRequest("GET", "/inbox", nil).WithContext(ConnContext(t.Context(), near))
	for _, row := range []struct{ name, password, want string }{
		{"bob", "builder", "bob"},
		{"alice", strings.Repeat("x", 200), "bob"},
		{"alice", "", "bob"},
		{"alice", "rabbit", "alice"},
	} {
		r.SetBasicAuth(row.name, row.password)
		_, key, err := readCredentials(r, scratches)
		last := stateOf(r).lastLogin.Load()
		if last == nil || last.name != row.want || err == nil && last.name == row.name && last.key != key {
			t.Errorf("after %s:%s: got %+v remembered, want %s", row.name, row.password, last, row.want)
		}
	}
}

// TestBodiesTakeMemoryAsTheyArrive checks that the announced length does not
// determine the memory that a body takes, and that all of it is reserved.
func TestBodiesTakeMemoryAsTheyArrive(t *testing.T) {
	for _, row := range []struct {
		came      int
		announced int64
		taken     int64 // beyond initialBodyBytes
	}{
		{100, 1 << 20, 0},
		{initialBodyBytes + 1, 1 << 20, initialBodyBytes},
		{3 * initialBodyBytes, 1 << 20, 3 * initialBodyBytes},
		{3 * initialBodyBytes, -1, 3 * initialBodyBytes},
		{2*initialBodyBytes - 1, 2*initialBodyBytes - 1, initialBodyBytes},
		{5*initialBodyBytes + 1, 5*initialBodyBytes + 1, 4*initialBodyBytes + 2},
	} {
		var reserved int64
		body, err := readGrowing(strings.NewReader(strings.Repeat("x", row.came)), row.announced, func(n int64) error { reserved += n; return nil })
		if err != nil || len(body) != row.came || cap(body) != row.came {
			t.Errorf("%+v: got %d bytes in memory for %d and %v, want no spare capacity", row, len(body), cap(body), err)
		}
		if reserved != row.taken {
			t.Errorf("%+v: reserved %d bytes", row, reserved)
		}
	}
}
