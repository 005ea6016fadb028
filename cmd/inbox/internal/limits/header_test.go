package limits

import (
	"bufio"
	"bytes"
	"net/http"
	"testing"
)

// What the size of a header is, is held against the bytes that net/http writes.
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
	if n := headerBytes(got); n != int64(size) {
		t.Errorf("headerBytes = %d, want %d", n, size)
	}
}
