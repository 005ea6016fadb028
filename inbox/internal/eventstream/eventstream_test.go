package eventstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// event is a parsed event.
type event struct{ id, kind, data string }

// parse reads a stream as the HTML Standard says: all three line ends, and a field is data only if
// a line begins with it.
func parse(t *testing.T, stream string) (all []event) {
	t.Helper()
	stream = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(stream)
	var e event
	for line := range strings.SplitSeq(stream, "\n") {
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "":
			if e.data != "" {
				all = append(all, e)
			}
			e = event{}
		case "id":
			e.id = value
		case "event":
			e.kind = value
		case "data":
			e.data += value
		default:
			t.Fatalf("got the field %q in %q", field, stream)
		}
	}
	return all
}

// checkEvent writes an event and compares what a client reads.
func checkEvent(t *testing.T, e Event) {
	t.Helper()
	var out bytes.Buffer
	if err := e.write(&out); err != nil {
		t.Fatal(err)
	}
	all := parse(t, out.String())
	if len(all) != 1 || all[0].kind != "message" || all[0].id != strconv.FormatUint(e.ID, 10) {
		t.Fatalf("%+v: got events %+v, want one message", e, all)
	}
	var got struct {
		From, Type string
		Body       *string
		Body64     []byte
	}
	dec := json.NewDecoder(strings.NewReader(all[0].data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&got); err != nil {
		t.Fatalf("%+v: got data %q: %v", e, all[0].data, err)
	}
	if got.From != e.From || got.Type != e.Type {
		t.Errorf("%+v: got %q and %q", e, got.From, got.Type)
	}
	isText := !e.IsBytes && utf8.Valid(e.Body)
	if (got.Body != nil) != isText {
		t.Fatalf("%+v: got %q, want text: %v", e, all[0].data, isText)
	}
	if body := got.Body64; isText && *got.Body != string(e.Body) || !isText && !bytes.Equal(body, e.Body) {
		t.Errorf("got body %.100q, want %.100q", all[0].data, e.Body)
	}
}

func TestEvents(t *testing.T) {
	for _, body := range []string{
		"", "hello", "a\nb\rc\r\nd\n\n", "\x00\x01\x1f\x7f", "\"\\/", "ä€😀\u2028\u2029\ufeff", "\xff", "a\xed\xa0\x80",
		"data: x\n\nid: 7\n", strings.Repeat("\x00", 5000), strings.Repeat("ä", 5000), strings.Repeat("\xfe", 4999),
		strings.Repeat("x", chunkBytes-1) + "\x80" + strings.Repeat("x", 3*bufferBytes), strings.Repeat("x", bufferBytes),
	} {
		for _, isBytes := range []bool{false, true} {
			checkEvent(t, Event{ID: 1790000000000000, From: "älice", Type: "text", IsBytes: isBytes, Body: []byte(body)})
		}
	}
}

// FuzzEvent writes events with arbitrary bodies.
func FuzzEvent(f *testing.F) {
	for _, seed := range []string{"", "\r\n", "\x00", "\xff\xfe", "id: 1\n\n", "\"}\n\ndata: {", "\u2028"} {
		f.Add(uint64(1), "bob", []byte(seed), false, uint16(1))
		f.Add(uint64(1<<63), "b\"\\", []byte(seed), true, uint16(1000))
	}
	f.Fuzz(func(t *testing.T, id uint64, from string, body []byte, isBytes bool, times uint16) {
		if !utf8.ValidString(from) {
			return // names are text
		}
		body = bytes.Repeat(body, min(int(times)%2000, 1+1<<17/(len(body)+1)))
		checkEvent(t, Event{ID: id, From: from, Type: "text", IsBytes: isBytes, Body: body})
	})
}

// failingWriter fails at the second write.
type failingWriter struct{ writes int }

var errFailed = errors.New("connection reset")

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.writes++; w.writes > 1 {
		return 0, errFailed
	}
	return len(p), nil
}

// TestWriteEndsAtAnError checks that a large body is not encoded for a client that is gone, and
// that the next event is not affected.
func TestWriteEndsAtAnError(t *testing.T) {
	w := &failingWriter{}
	e := Event{Body: bytes.Repeat([]byte("x"), 1<<20)}
	if err := e.write(w); err != errFailed || w.writes != 2 {
		t.Errorf("got %v after %d writes, want the error of the second", err, w.writes)
	}
	if err := e.write(io.Discard); err != nil {
		t.Errorf("got %v for the next event", err)
	}
}

func TestOtherParts(t *testing.T) {
	var out strings.Builder
	for _, err := range []error{
		writeRetry(&out, 1500*time.Millisecond), writeHeartbeat(&out), writeEnd(&out, "superseded", "x"), writeEnd(&out, "stopping", ""),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := "retry: 1500\n\n:\n\nid: x\nevent: end\ndata: superseded\n\nevent: end\ndata: stopping\n\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// TestEventsAllocateLittle checks that a large body takes no memory of its size.
func TestEventsAllocateLittle(t *testing.T) {
	e := Event{ID: 1, From: "bob", Type: "text", Body: bytes.Repeat([]byte("x\n"), 1<<19)}
	_ = e.write(io.Discard)
	if n := testing.AllocsPerRun(10, func() { _ = e.write(io.Discard) }); n > 5 {
		t.Errorf("got %v allocations, want 5 or less", n)
	}
}
