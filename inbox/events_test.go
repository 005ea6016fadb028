package inbox_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

const accept = "Accept: text/event-stream"

// event is one event of a stream, or a comment.
type event struct {
	id, kind, data, retry string
	comment               bool
}

// message is the data of a message.
type message struct {
	From, Type string
	Body       *string
	Body64     []byte
}

func (e event) message(t testing.TB) (m message) {
	t.Helper()
	if err := json.Unmarshal([]byte(e.data), &m); err != nil || e.kind != "message" {
		t.Fatalf("got event %+v, want a message: %v", e, err)
	}
	return m
}

// body returns the body of a message, whatever its form.
func (e event) body(t testing.TB) string {
	t.Helper()
	if m := e.message(t); m.Body != nil {
		return *m.Body
	} else {
		return string(m.Body64)
	}
}

// readEvent reads one event as the HTML Standard says.
func readEvent(r *bufio.Reader) (e event, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return e, err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "":
			if !strings.HasPrefix(line, ":") {
				return e, nil
			}
			e.comment = true
		case "id":
			e.id = value
		case "event":
			e.kind = value
		case "data":
			e.data = value
		case "retry":
			e.retry = value
		default:
			return e, fmt.Errorf("got the field %q, want none", field)
		}
	}
}

// readEvents reads a whole stream.
func readEvents(t testing.TB, stream string) (all []event) {
	t.Helper()
	for r := bufio.NewReader(strings.NewReader(stream)); ; {
		e, err := readEvent(r)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
}

// summary writes a stream in short: messages as their bodies, comments as a colon, and the end.
func summary(t testing.TB, stream string) string {
	t.Helper()
	var words []string
	for _, e := range readEvents(t, stream) {
		switch {
		case e.kind == "message":
			words = append(words, e.body(t))
		case e.kind != "":
			words = append(words, e.kind+"="+e.data)
		case e.comment:
			words = append(words, ":")
		}
	}
	return strings.Join(words, " ")
}

// stream starts a stream of bob.
func (s *rig) stream(query string, header ...string) <-chan *httptest.ResponseRecorder {
	return s.start(request("bob", "GET", "/inbox"+query, "", append(header, accept)...))
}

func (s *rig) wantStream(w *httptest.ResponseRecorder, want string) {
	s.t.Helper()
	if w == nil || w.Code != 200 || w.Header().Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("got %+v, want a stream", w)
	}
	if got := summary(s.t, w.Body.String()); got != want {
		s.t.Errorf("got stream %s, want %s", got, want)
	}
}

func TestWhatSelectsAStream(t *testing.T) {
	for field, want := range map[string]bool{
		"text/event-stream":                           true,
		"Text/Event-Stream":                           true,
		"text/html, text/event-stream;q=0.5":          true,
		"application/json,text/event-stream; q=0.001": true,
		"text/event-stream;charset=utf-8":             true,
		"":                                            false,
		"*/*":                                         false,
		"text/*":                                      false,
		"text/event-stream;q=0":                       false,
		"text/event-stream;q=0.000, */*":              false,
		"text/event-stream;q=x":                       false,
		"text/event-streams":                          false,
		"text/plain;x=text/event-stream":              false,
	} {
		r := request("bob", "GET", "/inbox", "", "Accept: "+field)
		if got := inbox.AcceptsEvents(r); got != want {
			t.Errorf("Accept: %s: got %v, want %v", field, got, want)
		}
	}
	r := request("bob", "GET", "/inbox", "", "Accept: text/html", accept)
	if !inbox.AcceptsEvents(r) {
		t.Error("got no stream for a second field, want one")
	}
}

// TestEventStream has a stream over real connections: the first bytes come at once, and messages
// of all types.
func TestEventStream(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(version, func(t *testing.T) {
			s := newRig(t, nil)
			server := httptest.NewUnstartedServer(s.Handler)
			server.Config.ConnContext = inbox.ConnContext
			server.EnableHTTP2 = version == "HTTP/2.0"
			server.StartTLS()
			defer server.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			r, _ := http.NewRequestWithContext(ctx, "GET", server.URL+"/inbox", nil)
			r.SetBasicAuth("bob", "password of bob")
			r.Header.Set("Accept", "text/event-stream")
			answer, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.Proto != version || answer.StatusCode != 200 {
				t.Fatalf("got %s %s, want %s 200", answer.Proto, answer.Status, version)
			}
			for name, want := range map[string]string{
				"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no",
				"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
			} {
				if got := answer.Header.Get(name); got != want {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
			}
			stream := bufio.NewReader(answer.Body)
			if e, err := readEvent(stream); err != nil || e.retry != "1000" {
				t.Fatalf("got %+v, %v first, want retry", e, err)
			}
			last := uint64(0)
			for _, row := range []struct{ contentType, body, kind string }{
				{"application/json", `{"a":"b\\c"}`, "json"},
				{"application/sdp", "v=0\r\no=- 1\r\n", "sdp"},
				{"application/trickle-ice-sdpfrag", "a=candidate:1\n", "frag"},
				{"text/plain;charset=UTF-8", "ä\u2028\x00 ", "text"},
				{"text/plain", "\xff\xfe", "text"},
				{"image/png", "\x89PNG\r\n", "bytes"},
				{"image/png", "text", "bytes"},
				{"", strings.Repeat("\n\"", 100_000), "bytes"},
				{"application/json", strings.Repeat("\n\"", 100_000), "json"},
				{"text/plain", "", "text"},
			} {
				s.want(s.do("alice %", "POST", "/inbox?to=bob", row.body, "Content-Type: "+row.contentType), 200, "")
				e, err := readEvent(stream)
				if err != nil {
					t.Fatal(err)
				}
				m := e.message(t)
				if m.From != "alice %" || m.Type != row.kind || e.body(t) != row.body {
					t.Errorf("got %s from %q with %.40q, want %s with %.40q", m.Type, m.From, e.body(t), row.kind, row.body)
				}
				if isText := row.kind != "bytes" && row.body != "\xff\xfe"; (m.Body != nil) != isText {
					t.Errorf("%s %.40q: got body %v, want it as text: %v", row.kind, row.body, m.Body, isText)
				}
				id, err := strconv.ParseUint(e.id, 10, 64)
				if err != nil || id <= last {
					t.Errorf("got ID %s after %d, want it to grow", e.id, last)
				}
				last = id
			}
			s.EndPolls()
			if e, err := readEvent(stream); err != nil || e.retry == "" {
				t.Errorf("got %+v, %v, want retry", e, err)
			}
			if e, err := readEvent(stream); err != nil || e != (event{kind: "end", data: "stopping"}) {
				t.Errorf("got %+v, %v, want the end", e, err)
			}
			if _, err := stream.ReadByte(); err != io.EOF {
				t.Errorf("got %v after the end, want EOF", err)
			}
			if got := s.Receivers()[inbox.EventStream]; got.AutoAck != 10 {
				t.Errorf("got %+v, want 10 messages", got)
			}
		})
	}
}

// TestStreamHangUp checks that a stream ends with its connection, and what it wrote stays.
func TestStreamHangUp(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		testStreamHangUp(t, http2)
	}
}

func testStreamHangUp(t *testing.T, http2 bool) {
	s := newRig(t, nil)
	server := httptest.NewUnstartedServer(s.Handler)
	server.EnableHTTP2 = http2
	server.StartTLS()
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "GET", server.URL+"/inbox", nil)
	r.SetBasicAuth("bob", "password of bob")
	r.Header.Set("Accept", "text/event-stream")
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	s.do("alice", "POST", "/inbox?to=bob", "hello")
	stream := bufio.NewReader(answer.Body)
	for range 2 {
		if _, err := readEvent(stream); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	for deadline := time.Now().Add(30 * time.Second); s.Receivers()[inbox.EventStream].Open > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the stream is still open")
		}
	}
	s.want(s.do("bob", "GET", "/inbox", ""), 200, "hello")
}

// TestTransportsSupersedeOneAnother has each transport take over from each, and then get the
// message.
func TestTransportsSupersedeOneAnother(t *testing.T) {
	transports := map[string]func(*rig) <-chan *httptest.ResponseRecorder{
		"poll": func(s *rig) <-chan *httptest.ResponseRecorder { return s.start(request("bob", "GET", "/inbox", "")) },
		"poll, after": func(s *rig) <-chan *httptest.ResponseRecorder {
			return s.start(request("bob", "GET", "/inbox?after=", ""))
		},
		"stream":       func(s *rig) <-chan *httptest.ResponseRecorder { return s.stream("") },
		"after stream": func(s *rig) <-chan *httptest.ResponseRecorder { return s.stream("?after=") },
	}
	for first, older := range transports {
		for second, newer := range transports {
			t.Run(first+" and "+second, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newRig(t, nil)
					ended, other := older(s), newer(s)
					w := <-ended
					if strings.HasPrefix(first, "poll") {
						s.want(w, 204, "")
						if w.Header().Get("X-Poll-Ended") != "superseded" {
							t.Errorf("got %v, want the poll superseded", w.Header())
						}
					} else {
						s.wantStream(w, "end=superseded")
					}
					s.do("alice", "POST", "/inbox?to=bob", "hello")
					synctest.Wait()
					s.do("bob", "DELETE", "/inbox", "")
					if w = <-other; strings.HasPrefix(second, "poll") {
						s.want(w, 200, "hello")
					} else {
						s.wantStream(w, "hello end=claim-ended")
					}
				})
			})
		}
	}
}

// TestSupersededEventSourceStops has an EventSource reconnect with the ID of the last event.
func TestSupersededEventSourceStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, nil)
		first, second := s.stream(""), s.stream("")
		events := readEvents(t, (<-first).Body.String())
		end := events[len(events)-1]
		if end != (event{id: "superseded", kind: "end", data: "superseded"}) {
			t.Fatalf("got %+v, want the end", end)
		}
		for _, query := range []string{"", "?after="} {
			w := s.do("bob", "GET", "/inbox"+query, "", accept, "Last-Event-ID: "+end.id)
			s.want(w, 204, "")
			if w.Header().Get("X-Poll-Ended") != "superseded" {
				t.Errorf("got %v, want X-Poll-Ended", w.Header())
			}
		}
		r := request("bob", "GET", "/inbox", "", accept, "Last-Event-ID: superseded")
		r.SetBasicAuth("bob", "a wrong password")
		s.wantStatus(r, 401)
		s.do("alice", "POST", "/inbox?to=bob", "hello")
		synctest.Wait()
		third := s.stream("") // the user asks for it
		s.wantStream(<-second, "hello end=superseded")
		s.do("bob", "DELETE", "/inbox", "")
		s.wantStream(<-third, "hello end=claim-ended")
	})
}

// TestStreamResumes checks that a stream that resumes ends no other device.
func TestStreamResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, nil)
		laptop := s.stream("?client=laptop")
		s.wantProblem(s.do("bob", "GET", "/inbox?client=phone&resume=1", "", accept), 409, "other-receiver")
		again := s.stream("?client=laptop&resume=1")
		s.wantStream(<-laptop, "end=superseded")
		phone := s.stream("?client=phone")
		s.wantStream(<-again, "end=superseded")
		s.wantProblem(s.do("bob", "GET", "/inbox?client=laptop&resume=1", "", accept), 409, "other-receiver")
		s.do("bob", "DELETE", "/inbox", "")
		s.wantStream(<-phone, "end=claim-ended")
	})
}

// numbers returns "1 2 … n" from a number.
func numbers(from, to int) string {
	var words []string
	for i := from; i <= to; i++ {
		words = append(words, strconv.Itoa(i))
	}
	return strings.Join(words, " ")
}

func (s *rig) sendNumbers(from, to int) {
	for i := from; i <= to; i++ {
		s.want(s.do("alice", "POST", "/inbox?to=bob", strconv.Itoa(i)), 200, "")
	}
}

// lastID returns the ID of the last message of a stream.
func lastID(t *testing.T, stream string) string {
	id := ""
	for _, e := range readEvents(t, stream) {
		if e.kind == "message" {
			id = e.id
		}
	}
	return id
}

// TestPlainStreamKeepsAWindow checks that the last 64 messages stay after they were written, and
// that Last-Event-ID acknowledges.
func TestPlainStreamKeepsAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, func(_ *inbox.Config, l *inbox.Limits) { l.Capacity = 0 })
		first := s.stream("")
		for i := 1; i <= 300; i++ {
			s.sendNumbers(i, i)
			synctest.Wait()
		}
		if kept := s.store.Stats().Queued; kept < 64 || kept > 64+8 {
			t.Errorf("%d messages are kept, want 64 to 72", kept)
		}
		second := s.stream("?client=second") // a reconnect without an ID: nothing of the window is lost
		body := (<-first).Body.String()
		if got, want := summary(t, body), numbers(1, 300)+" end=superseded"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		third := s.stream("", "Last-Event-ID: "+lastID(t, body))
		got := summary(t, (<-second).Body.String())
		if want := numbers(237, 300) + " end=superseded"; !strings.HasSuffix(got, want) || strings.Contains(got, "220 ") {
			t.Errorf("got %s, want %s at its end", got, want)
		}
		s.sendNumbers(301, 301)
		synctest.Wait()
		if kept := s.store.Stats().Queued; kept != 1 {
			t.Errorf("%d messages are kept, want the one that came after Last-Event-ID", kept)
		}
		s.do("bob", "DELETE", "/inbox", "")
		s.wantStream(<-third, "301 end=claim-ended")
	})
}

// claimStore remembers the last claim, so that a test can act as another node.
type claimStore struct {
	*memstore.Store
	claim inbox.Claim
}

func (s *claimStore) OpenNext(
	ctx context.Context, name string, key inbox.Key, ack uint64, client inbox.Client,
) (inbox.Claim, inbox.Message, error) {
	c, m, err := s.Store.OpenNext(ctx, name, key, ack, client)
	if c.Name != "" {
		s.claim = c
	}
	return c, m, err
}

// TestAcknowledgedStreamStopsAtItsWindow checks that 64 messages are in flight at most.
func TestAcknowledgedStreamStopsAtItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store *claimStore
		s := newRig(t, func(c *inbox.Config, l *inbox.Limits) {
			l.Capacity = 0
			store = &claimStore{Store: memstore.New(*l)}
			c.Store = store
		})
		stream := s.stream("?after=")
		first := store.claim.Epoch
		wantSent := func(want int64) {
			t.Helper()
			synctest.Wait()
			if n := s.Receivers()[inbox.EventStream].ManualAck; n != want {
				t.Fatalf("%d messages were sent, want %d", n, want)
			}
		}
		ack := func(n uint64) {
			t.Helper()
			s.want(s.do("bob", "POST", fmt.Sprintf("/inbox/ack?upTo=%d", first+n-1), ""), 204, "")
		}
		s.sendNumbers(1, 200)
		wantSent(64)
		time.Sleep(time.Minute)
		wantSent(64)
		ack(0) // acknowledges nothing
		wantSent(64)
		ack(10)
		wantSent(74)
		ack(74)
		wantSent(138)
		ack(20) // was acknowledged before
		wantSent(138)
		if n := store.Stats().Queued; n != 126 {
			t.Errorf("%d messages are queued, want 126", n)
		}
		// Another node gets it, which wakes no receiver here.
		if err := store.Discard(t.Context(), store.claim, first+137); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		wantSent(200)
		s.sendNumbers(201, 202)
		wantSent(202)
		if err := store.Discard(t.Context(), store.claim, first+201); err != nil { // all of them
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		s.sendNumbers(203, 300)
		wantSent(202 + 64)
		s.do("bob", "DELETE", "/inbox", "")
		w := <-stream
		if got, want := strings.ReplaceAll(summary(t, w.Body.String()), ": ", ""), numbers(1, 266)+" end=claim-ended"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// TestAcknowledgedStreamResumes checks that what was not acknowledged comes again.
func TestAcknowledgedStreamResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, nil)
		first := s.stream("?after=")
		s.sendNumbers(1, 5)
		synctest.Wait()
		second := s.stream("?after=")
		events := readEvents(t, (<-first).Body.String())
		three := events[3] // after retry
		if three.body(t) != "3" {
			t.Fatalf("got %+v, want 3", three)
		}
		third := s.stream("?after="+three.id, "Last-Event-ID: "+events[5].id) // after wins
		s.wantStream(<-second, "1 2 3 4 5 end=superseded")
		s.do("bob", "DELETE", "/inbox", "")
		s.wantStream(<-third, "4 5 end=claim-ended")
	})
}

// TestWindowOfASmallInbox checks that messages that were written leave space for new ones.
func TestWindowOfASmallInbox(t *testing.T) {
	for _, capacity := range []int{1, 2, 3, 10} {
		synctest.Test(t, func(t *testing.T) {
			s := newRig(t, func(c *inbox.Config, l *inbox.Limits) { l.Capacity, c.Capacity = capacity, capacity })
			stream := s.stream("")
			for i := 1; i <= 50; i++ {
				s.sendNumbers(i, i)
				synctest.Wait()
			}
			if kept := s.store.Stats().Queued; kept < int64(capacity*2/3) {
				t.Errorf("capacity %d: %d messages are kept, want %d or more", capacity, kept, capacity*2/3)
			}
			s.do("bob", "DELETE", "/inbox", "")
			s.wantStream(<-stream, numbers(1, 50)+" end=claim-ended")
		})
	}
}

// TestStreamHeartbeats checks that a stream without messages shows that it is alive, and keeps the
// claim.
func TestStreamHeartbeats(t *testing.T) {
	for heartbeat, want := range map[time.Duration]int{0: 24, 10 * time.Second: 60} {
		synctest.Test(t, func(t *testing.T) {
			s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) {
				c.PollTimeout, c.Heartbeat = 2*time.Second, heartbeat // a short wait of polls makes none more frequent
			})
			stream := s.stream("?wait=3") // wait is that of polls
			time.Sleep(10*time.Minute + time.Second)
			s.store.Sweep()
			s.want(s.do("alice", "POST", "/inbox?to=bob", "hello"), 200, "")
			synctest.Wait()
			s.do("bob", "DELETE", "/inbox", "")
			s.wantStream(<-stream, strings.Repeat(": ", want)+"hello end=claim-ended")
		})
	}
}

// TestStreamsNeedLongPolling checks that a server that holds no request has no streams.
func TestStreamsNeedLongPolling(t *testing.T) {
	s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.PollTimeout = 0 })
	s.want(s.do("bob", "GET", "/inbox", "", accept), 204, "")
	s.do("alice", "POST", "/inbox?to=bob", "hello")
	s.want(s.do("bob", "GET", "/inbox", "", accept), 200, "hello")
}

func TestStreamRefusals(t *testing.T) {
	s := newRig(t, nil)
	s.do("bob", "GET", "/inbox?wait=0", "")
	s.wantProblem(s.do("", "GET", "/inbox", "", accept), 401, "unauthorized")
	s.wantProblem(s.do("bob", "GET", "/inbox?after=x", "", accept), 400, "bad-request")
	s.wantProblem(s.do("bob", "GET", "/inbox", "", accept, "Last-Event-ID: x"), 400, "bad-request")
	for _, id := range []string{"", "x", "superseded"} {
		r := request("bob", "GET", "/inbox", "", accept, "Last-Event-ID: "+id)
		r.SetBasicAuth("bob", "a wrong password")
		s.wantStatus(r, 401)
	}
	s.wantProblem(s.do("bob", "GET", "/inbox", "", accept, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors"), 403, "cross-site")
	s.wantProblem(s.do("bob", "HEAD", "/inbox", "", accept), 405, "method-not-allowed")
}

// TestStoppingServerEndsStreams checks that an EventSource comes back: it does so after 200 only.
func TestStoppingServerEndsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, nil)
		open := s.stream("")
		s.EndPolls()
		for _, w := range []*httptest.ResponseRecorder{<-open, s.do("bob", "GET", "/inbox", "", accept)} {
			s.wantStream(w, "end=stopping")
			events := readEvents(t, w.Body.String())
			if retry, err := strconv.Atoi(events[1].retry); err != nil || retry < 1000 || retry > 3000 || events[2].id != "" {
				t.Errorf("got %+v, want retry from 1000 to 3000 and no ID", events)
			}
		}
	})
}

// TestSlowReaderLosesNothing has a stream whose client does not read: the write fails, the
// connection is closed, and the message stays.
func TestSlowReaderLosesNothing(t *testing.T) {
	for _, query := range []string{"", "?after="} {
		synctest.Test(t, func(t *testing.T) {
			s := newRig(t, nil)
			done := make(chan any)
			flush := make(chan error, 1)
			flush <- nil // the first bytes arrive
			go func() {
				defer func() { done <- recover() }()
				s.ServeHTTP(slowWriter{httptest.NewRecorder(), flush}, request("bob", "GET", "/inbox"+query, "", accept))
			}()
			synctest.Wait()
			s.sendNumbers(1, 2)
			synctest.Wait()
			s.want(s.do("bob", "GET", "/inbox?wait=0&after=", ""), 200, "1") // does not wait for the write
			flush <- io.ErrClosedPipe
			if got := <-done; got != http.ErrAbortHandler {
				t.Errorf("got %v, want the connection aborted", got)
			}
			s.want(s.do("bob", "GET", "/inbox", ""), 200, "1")
			s.want(s.do("bob", "GET", "/inbox", ""), 200, "2")
			if n := s.Receivers()[inbox.EventStream].Requeued; n != 1 {
				t.Errorf("got %d messages requeued, want 1", n)
			}
		})
	}
}

// TestStreamWriteDeadline checks that each write has a deadline, and that none stays, which over
// HTTP/2 would end a stream that waits.
func TestStreamWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.WriteTimeout = 7 * time.Second })
		w := &deadlineRecorder{ResponseRecorder: httptest.NewRecorder()}
		go s.ServeHTTP(w, request("bob", "GET", "/inbox", "", accept))
		time.Sleep(time.Minute) // the first bytes, and two heartbeats
		synctest.Wait()
		if len(w.write) != 6 {
			t.Fatalf("got deadlines %v, want 6", w.write)
		}
		for i, deadline := range w.write {
			if isSet := i%2 == 0; isSet == deadline.IsZero() {
				t.Errorf("got deadlines %v, want one for each write", w.write)
			}
		}
		s.EndPolls()
		synctest.Wait()
	})
}

// TestStreamWaitsForTheBodyBudget has a large body wait until another one was written.
func TestStreamWaitsForTheBodyBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 600 << 10
		s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.MaxInFlightBytes = 1 << 20 })
		for _, name := range []string{"bob", "carol"} {
			s.do(name, "GET", "/inbox?wait=0", "")
			s.want(s.do("alice", "POST", "/inbox?to="+name, strings.Repeat("x", size)), 200, "")
		}
		until := make(chan struct{})
		go s.ServeHTTP(blockedWriter{httptest.NewRecorder(), until}, request("carol", "GET", "/inbox?after=", ""))
		synctest.Wait()
		stream := s.stream("?after=")
		time.Sleep(10 * time.Second)
		if n := s.Receivers()[inbox.EventStream].ManualAck; n != 0 {
			t.Errorf("got %d messages over the budget, want none", n)
		}
		close(until)
		time.Sleep(10 * time.Second)
		if n := s.Receivers()[inbox.EventStream].ManualAck; n != 1 {
			t.Errorf("got %d messages, want the one that waited", n)
		}
		s.do("bob", "DELETE", "/inbox", "")
		if w := <-stream; w.Body.Len() < size*4/3 {
			t.Errorf("got a stream of %d bytes, want the message", w.Body.Len())
		}
	})
}

func TestAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, nil)
		s.do("bob", "GET", "/inbox?wait=0", "")
		s.sendNumbers(1, 3)
		one := s.do("bob", "GET", "/inbox?after=", "").Header().Get("X-Message-Id")
		for target, want := range map[string]string{
			"":                         "upTo must be in the query, as in ?upTo=1790000000000000",
			"?upTo=":                   "upTo must be the ID of a message, once",
			"?upTo=x":                  "upTo must be the ID of a message, once",
			"?upTo=" + one + "&upTo=1": "upTo must be the ID of a message, once",
		} {
			if got := s.wantProblem(s.do("bob", "POST", "/inbox/ack"+target, ""), 400, "bad-request"); got != want {
				t.Errorf("%s: got %q, want %q", target, got, want)
			}
			r := request("bob", "POST", "/inbox/ack"+target, "")
			r.SetBasicAuth("bob", "a wrong password")
			s.wantStatus(r, 401)
		}
		s.wantProblem(s.do("", "POST", "/inbox/ack?upTo="+one, ""), 401, "unauthorized")
		s.wantProblem(s.do("bob", "GET", "/inbox/ack?upTo="+one, ""), 405, "method-not-allowed")
		s.wantProblem(s.do("bob", "POST", "/inbox/ack/?upTo="+one, ""), 404, "not-found")
		s.want(s.do("bob", "POST", "/inbox/ack?upTo=99999999999999999999", ""), 204, "") // of no message: nothing is removed
		for range 2 {
			w := s.do("bob", "POST", "/inbox/ack?upTo="+one, "")
			s.want(w, 204, "")
		}
		s.want(s.do("bob", "GET", "/inbox?after=", ""), 200, "2")
		poll := s.start(request("carol", "GET", "/inbox", "")) // ack ends no receiver
		s.want(s.do("carol", "POST", "/inbox/ack?upTo=1", ""), 204, "")
		for range 3 { // it restarts the timeout of the claim
			time.Sleep(40 * time.Second)
			s.want(s.do("bob", "POST", "/inbox/ack?upTo=1", ""), 204, "")
		}
		s.want(s.do("bob", "GET", "/inbox?after=", ""), 200, "2")
		if w := <-poll; w.Header().Get("X-Poll-Ended") != "" {
			t.Errorf("got %v, want the poll to end with its time", w.Header())
		}
	})
}
