package logging

import (
	"bufio"
	"bytes"
	"os"
	"strings"
	"testing"
	"time"
)

func newPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// TestWriterDropsLinesOfStalledReader fills a pipe that is not read. Lines are dropped
// until the reader continues, and their number is reported.
func TestWriterDropsLinesOfStalledReader(t *testing.T) {
	r, file := newPipe(t)
	w := NewWriter(file)
	w.timeout = time.Millisecond
	line := append(bytes.Repeat([]byte("x"), 1<<20), '\n') // larger than a pipe
	for range 3 {
		if n, err := w.Write(line); n != len(line) || err != nil {
			t.Fatalf("got %d, %v; want the line to be accepted", n, err)
		}
	}
	in := bufio.NewReaderSize(r, 2<<20)
	if got, err := in.ReadString('\n'); got != string(line) {
		t.Fatalf("got a line of %d bytes (%v), want the first one complete", len(got), err)
	}
	<-w.pending
	w.timeout = time.Minute
	w.Write([]byte("after\n"))
	for _, want := range []string{"2 log lines were dropped", "after"} {
		if got, err := in.ReadString('\n'); !strings.Contains(got, want) {
			t.Errorf("got %q (%v), want %q", got, err, want)
		}
	}
}

// TestWriterWithoutReader checks that a write to a file that fails is not an error. As
// os.Stderr, such a pipe would also raise SIGPIPE; main ignores it.
func TestWriterWithoutReader(t *testing.T) {
	r, file := newPipe(t)
	r.Close()
	w := NewWriter(file)
	for range 3 {
		if n, err := w.Write([]byte("lost\n")); n != 5 || err != nil {
			t.Errorf("got %d, %v; want no error", n, err)
		}
	}
	if w.dropped != 0 {
		t.Errorf("%d lines count as dropped, want 0: the writes ended", w.dropped)
	}
}
