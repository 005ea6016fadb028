package limits

import (
	"bufio"
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
)

// The size of a header is compared with the bytes that net/http writes.
func TestHeaderSize(t *testing.T) {
	r, _ := http.NewRequest("POST", "http://server.example/inbox?to=a", nil)
	r.Header.Set("User-Agent", "test")
	r.Header.Add("Accept", "a")
	r.Header.Add("Accept", "b")
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		t.Fatal(err)
	}
	size := wire.Len()
	got, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatal(err)
	}
	if n, fields := headerSize(got); n != int64(size) || fields != 4 {
		t.Errorf("got %d bytes and %d fields, want %d and 4", n, fields, size)
	}
}

// TestRefusedHeadersAreDropped checks that a refusal does not keep the header in memory while
// the limit on requests delays it.
func TestRefusedHeadersAreDropped(t *testing.T) {
	l := &HeaderLimiter{MaxBytes: 1 << 20, MaxFields: 3, Keep: []string{"origin", "Accept", ""}}
	passed := func(w http.ResponseWriter, r *http.Request) { t.Error("the request is not refused") }
	var seen http.Header
	limit := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen = r.Header
			next.ServeHTTP(w, r)
		})
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header = http.Header{"Origin": {"https://a.example"}, "X": {"1", "2"}, "Y": {"1"}}
	all, w := r.Header, httptest.NewRecorder()
	l.Handler(limit)(http.HandlerFunc(passed)).ServeHTTP(w, r)
	if w.Code != http.StatusRequestHeaderFieldsTooLarge || l.Refused() != 1 {
		t.Errorf("got %d and %d refusals, want 431 and 1", w.Code, l.Refused())
	}
	if len(all) != 0 || len(seen) != 1 || seen.Get("Origin") == "" {
		t.Errorf("got the fields %v and %v kept, want the origin only", all, seen)
	}
}
