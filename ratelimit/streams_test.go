package ratelimit

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// newTestStreams returns a limiter that takes the client's address from a field.
func newTestStreams(limits StreamLimits) *StreamLimiter {
	return NewStreamLimiter(limits, func(r *http.Request) netip.Addr { return ParseAddr(r.Header.Get("X-From")) })
}

// noLimit is the limit of refusals that passes all.
func noLimit(next http.Handler) http.Handler { return next }

// streamServer serves next over HTTP/2 behind the limiter.
func streamServer(t *testing.T, a *StreamLimiter, next http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(a.Handler(noLimit)(next))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func getFrom(ctx context.Context, s *httptest.Server, from string) (string, error) {
	r, _ := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
	r.Header.Set("X-From", from)
	resp, err := s.Client().Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status + " " + resp.Header.Get("Retry-After"))
	}
	return string(body), err
}

func TestStreamLimiterBoundsConcurrentRequests(t *testing.T) {
	for _, row := range []struct {
		name         string
		limits       StreamLimits
		first, third string // addresses of the first two requests, and of the third
		refuses      bool
	}{
		{"below", StreamLimits{Max: 3, MaxPerAddr: 3}, "192.0.2.1", "192.0.2.1", false},
		{"in total", StreamLimits{Max: 2}, "192.0.2.1", "192.0.2.2", true},
		{"per address", StreamLimits{Max: 9, MaxPerAddr: 2}, "192.0.2.1", "192.0.2.1", true},
		{"another address", StreamLimits{Max: 9, MaxPerAddr: 2}, "192.0.2.1", "192.0.2.2", false},
		{"no limit", StreamLimits{}, "192.0.2.1", "192.0.2.1", false},
		{"dry run per address", StreamLimits{Max: 9, MaxPerAddr: 1, DryRun: true}, "192.0.2.1", "192.0.2.1", false},
		{"dry run in total", StreamLimits{Max: 2, DryRun: true}, "192.0.2.1", "192.0.2.2", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			arrived, release := make(chan struct{}, 3), make(chan struct{})
			a := newTestStreams(row.limits)
			s := streamServer(t, a, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				arrived <- struct{}{}
				<-release
				io.WriteString(w, "served")
			}))
			answers := make(chan error, 3)
			for range 2 {
				go func() { _, err := getFrom(t.Context(), s, row.first); answers <- err }()
				<-arrived
			}
			go func() { _, err := getFrom(t.Context(), s, row.third); answers <- err }()
			if row.refuses {
				if err := <-answers; err == nil || err.Error() != "503 Service Unavailable 1" {
					t.Errorf("the third request: got %v, want 503 and Retry-After", err)
				}
				answers <- nil
			} else {
				<-arrived
			}
			close(release)
			for range 3 {
				if err := <-answers; err != nil {
					t.Error(err)
				}
			}
			if got := a.Refused() > 0; got != (row.refuses || row.limits.DryRun) {
				t.Errorf("got a refusal counted %v, want %v", got, row.refuses || row.limits.DryRun)
			}
		})
	}
}

// A slot is released when its request ends, also after a refusal and a panic.
func TestStreamLimiterReleasesSlots(t *testing.T) {
	a := newTestStreams(StreamLimits{Max: 1})
	var h http.Handler
	ask := func(path string) int {
		defer func() { recover() }()
		r := httptest.NewRequest("GET", path, nil)
		r.ProtoMajor = 2
		r.Header.Set("X-From", "2001:db8::1")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	h = a.Handler(noLimit)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if got := ask("/"); got != http.StatusServiceUnavailable {
			t.Errorf("a second stream: got %d, want 503", got)
		}
		if r.URL.Path == "/panic" {
			panic(http.ErrAbortHandler)
		}
	}))
	for range 20 {
		ask("/panic")
		if got := ask("/"); got != http.StatusOK {
			t.Errorf("got %d, want 200", got)
		}
	}
	if a.Refused() != 40 || a.Active() != 0 || len(a.active) != 0 || a.refusing.Load() != 0 {
		t.Errorf("got %d refused, %d active, %d tracked and %d being refused, want 40 and none", a.Refused(), a.Active(), len(a.active), a.refusing.Load())
	}
}

// TestStreamRefusalsAreLimited checks that refusals pass through the limit that is given, and
// that streams are reset when too many refusals are being sent.
func TestStreamRefusalsAreLimited(t *testing.T) {
	a := newTestStreams(StreamLimits{Max: 1})
	passed, release := make(chan struct{}, maxStreamRefusals+1), make(chan struct{})
	h := a.Handler(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			passed <- struct{}{}
			<-release
			w.WriteHeader(http.StatusTooManyRequests)
		})
	})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request over the limit is served") }))
	a.share.Reserve(netip.Addr{}, 1)
	codes := make(chan int, maxStreamRefusals)
	ask := func() (code int, aborted bool) {
		defer func() { aborted = recover() == http.ErrAbortHandler }()
		r := httptest.NewRequest("GET", "/", nil)
		r.ProtoMajor = 2
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, false
	}
	for range maxStreamRefusals {
		go func() { code, _ := ask(); codes <- code }()
		<-passed
	}
	if _, aborted := ask(); !aborted {
		t.Error("one more refusal was sent, want its stream reset")
	}
	close(release)
	for range maxStreamRefusals {
		if code := <-codes; code != http.StatusTooManyRequests {
			t.Errorf("got %d, want the response of the limit", code)
		}
	}
}

// stalledClient is an HTTP/2 connection of a client that grants no window for responses.
func stalledClient(t *testing.T, s *httptest.Server, from string, streams int) *http2.Framer {
	t.Helper()
	c, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	f := http2.NewFramer(c, c)
	io.WriteString(c, http2.ClientPreface)
	f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i := range streams {
		block.Reset()
		for _, field := range [][2]string{{":method", "GET"}, {":path", "/"}, {":scheme", "https"}, {":authority", "localhost"}, {"x-from", from}} {
			encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(1 + 2*i), BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// TestStalledStreamsLeaveRoom lets addresses, and networks of one /48, fill the limiter with
// responses that they do not read. Another client is served all the same.
func TestStalledStreamsLeaveRoom(t *testing.T) {
	for name, attacker := range map[string]string{"addresses": "203.0.%d.1", "one network": "203.0.113.%d", "one /48": "2001:db8:0:%d::1"} {
		t.Run(name, func(t *testing.T) {
			a := newTestStreams(StreamLimits{Max: 400, MaxPerAddr: 400})
			s := streamServer(t, a, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "served") }))
			for i := range 15 {
				stalledClient(t, s, fmt.Sprintf(attacker, i%5), 100)
			}
			waitUntil(t, "streams over the shares", func() bool { return a.Refused() > 200 })
			for range 10 {
				if got, err := getFrom(t.Context(), s, "198.51.100.1"); got != "served" {
					t.Errorf("a good client got %q, %v", got, err)
				}
			}
			if got := a.Active(); got > 300 {
				t.Errorf("got %d streams of attackers, want at most 300 of 400", got)
			}
		})
	}
}

// TestStalledResponsesAreEnded checks that responses that a client does not read are ended
// when streams are short, and others are not.
func TestStalledResponsesAreEnded(t *testing.T) {
	a := newTestStreams(StreamLimits{Max: 40})
	waiting, release := make(chan bool), make(chan bool)
	s := streamServer(t, a, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-From") == "198.51.100.1" {
			waiting <- true
			<-release
		}
		io.WriteString(w, "served")
	}))
	poll := make(chan string)
	go func() { got, err := getFrom(t.Context(), s, "198.51.100.1"); poll <- fmt.Sprint(got, err) }()
	<-waiting
	f := stalledClient(t, s, "192.0.2.1", 25)
	blocked := func() (n int) {
		a.mu.Lock()
		defer a.mu.Unlock()
		for w := range a.active {
			if w.writing.Load() != 0 {
				n++
			}
		}
		return n
	}
	waitUntil(t, "25 stalled responses", func() bool { return blocked() == 25 })
	later := time.Now().Add(2 * stallTimeout)
	a.endStalled(later)
	if a.sweeping.Load() || a.Stalled() != 0 {
		t.Error("stalled responses are ended although a third of the streams is free")
	}
	stalledClient(t, s, "192.0.2.2", 10)
	waitUntil(t, "35 stalled responses", func() bool { return blocked() == 35 })
	a.endStalled(time.Now()) // too early
	waitUntil(t, "the search", func() bool { return !a.sweeping.Load() })
	if a.Stalled() != 0 {
		t.Errorf("got %d responses ended before the timeout, want none", a.Stalled())
	}
	a.endStalled(later)
	waitUntil(t, "the end of the stalled responses", func() bool { return a.Active() == 1 && a.Stalled() == 35 })
	for resets := 0; resets < 25; {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("after %d resets: %v", resets, err)
		}
		if _, ok := frame.(*http2.RSTStreamFrame); ok {
			resets++
		}
	}
	close(release)
	if got := <-poll; got != "served<nil>" {
		t.Errorf("a waiting request got %s, want its response", got)
	}
}

// TestStreamWriterShowsProgress checks that a large response is written in chunks.
func TestStreamWriterShowsProgress(t *testing.T) {
	var sizes []int
	w := &streamWriter{ResponseWriter: chunkRecorder{httptest.NewRecorder(), &sizes}, limiter: newTestStreams(StreamLimits{})}
	if n, err := w.Write(make([]byte, 2*stallChunkBytes+1)); n != 2*stallChunkBytes+1 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if n, err := w.Write(nil); n != 0 || err != nil {
		t.Errorf("an empty write: got %d, %v", n, err)
	}
	if want := []int{stallChunkBytes, stallChunkBytes, 1, 0}; !slices.Equal(sizes, want) {
		t.Errorf("got writes of %v bytes, want %v", sizes, want)
	}
}

type chunkRecorder struct {
	*httptest.ResponseRecorder
	sizes *[]int
}

func (c chunkRecorder) Write(p []byte) (int, error) {
	*c.sizes = append(*c.sizes, len(p))
	return len(p), nil
}

// deadlineRecorder records the write deadlines of a response.
type deadlineRecorder struct {
	*httptest.ResponseRecorder
	set []time.Duration // from the beginning of the test
	at  time.Time
}

func (d *deadlineRecorder) SetWriteDeadline(t time.Time) error {
	d.set = append(d.set, t.Sub(d.at))
	return nil
}

// TestStreamDeadlineMovesWithProgress checks that each 64 KiB of a response have a deadline,
// unless the handler sets one.
func TestStreamDeadlineMovesWithProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &deadlineRecorder{httptest.NewRecorder(), nil, time.Now()}
		w := &streamWriter{ResponseWriter: rec, limiter: newTestStreams(StreamLimits{Timeout: 30 * time.Second})}
		for range 20 {
			w.Write(make([]byte, 10<<10)) // 200 KiB in all
			time.Sleep(time.Second)
		}
		want := []time.Duration{30 * time.Second, 37 * time.Second, 44 * time.Second}
		if !slices.Equal(rec.set, want) {
			t.Errorf("got deadlines %v, want %v", rec.set, want)
		}
		http.NewResponseController(w).SetWriteDeadline(time.Now())
		w.Write(make([]byte, 1<<20))
		if len(rec.set) != len(want)+1 {
			t.Errorf("got deadlines %v, want none after that of the handler", rec.set)
		}
	})
}

// TestUnreadStreamsEnd checks that a response that the client does not read is reset, and a
// request that waits is not.
func TestUnreadStreamsEnd(t *testing.T) {
	a := newTestStreams(StreamLimits{Max: 100, MaxPerAddr: 100, Timeout: 100 * time.Millisecond})
	release := make(chan struct{})
	s := streamServer(t, a, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-From") == "192.0.2.2" {
			<-release
		}
		io.WriteString(w, "served")
	}))
	poll := make(chan string, 1)
	go func() { text, err := getFrom(t.Context(), s, "192.0.2.2"); poll <- fmt.Sprint(text, err) }()
	waitUntil(t, "a request that waits", func() bool { return a.Active() == 1 })
	stalledClient(t, s, "192.0.2.1", 3)
	waitUntil(t, "the end of unread responses", func() bool { return a.Stalled() == 3 && a.Active() == 1 })
	close(release)
	if got := <-poll; got != "served<nil>" {
		t.Errorf("a waiting request got %s, want its response", got)
	}
}

// waitUntil waits until done returns true.
func waitUntil(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting for %s", what)
		}
	}
}

// Requests of HTTP/1.1 are bounded by connections and have no stream to reset.
func TestStreamLimiterIgnoresHTTP1(t *testing.T) {
	a := newTestStreams(StreamLimits{Max: 1})
	var h http.Handler
	depth := 0
	h = a.Handler(noLimit)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if depth++; depth < 3 {
			h.ServeHTTP(w, r) // one more while this one is active
		}
	}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	if depth != 3 || a.Refused() != 0 {
		t.Errorf("got %d requests at once and %d refused, want 3 and none", depth, a.Refused())
	}
}

// unreadRecorder records a response that the client does not read yet.
type unreadRecorder struct {
	*httptest.ResponseRecorder
	flushing, read chan struct{}
}

func (s *unreadRecorder) Flush() {
	close(s.flushing)
	<-s.read
}

// A stream is active until the client has read the response, even after the handler has
// returned.
func TestStreamLimiterCountsUnreadResponses(t *testing.T) {
	a := newTestStreams(StreamLimits{Max: 1})
	h := a.Handler(noLimit)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	w := &unreadRecorder{httptest.NewRecorder(), make(chan struct{}), make(chan struct{})}
	r := httptest.NewRequest("GET", "/", nil)
	r.ProtoMajor = 2
	done := make(chan struct{})
	go func() { defer close(done); h.ServeHTTP(w, r) }()
	<-w.flushing
	if a.Active() != 1 {
		t.Errorf("%d streams active while a response is not read, want 1", a.Active())
	}
	close(w.read)
	<-done
	if a.Active() != 0 {
		t.Errorf("%d streams active after all ended", a.Active())
	}
}

// TestPrefaceOfHTTP2IsNoStream checks that a handler can hijack the connection of a preface.
func TestPrefaceOfHTTP2IsNoStream(t *testing.T) {
	limiter := NewStreamLimiter(StreamLimits{Max: 1}, func(*http.Request) netip.Addr { return netip.Addr{} })
	unlimited := func(next http.Handler) http.Handler { return next }
	server := httptest.NewServer(limiter.Handler(unlimited)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(c, "hijacked")
		c.Close()
	})))
	defer server.Close()
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	if got, _ := io.ReadAll(c); string(got) != "hijacked" || limiter.Active() != 0 {
		t.Errorf("got %q and %d active streams, want hijacked and none", got, limiter.Active())
	}
}
