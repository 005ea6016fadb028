package attack

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// eventAttacks returns the attacks on event streams.
func eventAttacks(seconds time.Duration) []attack {
	return []attack{
		{name: "event streams, thousands", run: manyStreams},
		{name: "event streams never read over HTTP/2, 3 addresses", run: stalledEvents(3, 5*seconds*time.Second)},
		{name: "event streams: supersede storm", run: supersedeStorm(false)},
		{name: "event streams that never acknowledge", run: neverAcknowledge},
		{name: "event streams: large fields, wrong IDs", run: oddStreams},
		{name: "streams that are read slowly", slow: true, timeout: 3 * time.Minute, run: slowStreams(20 * seconds * time.Second)},
		{name: "event streams never read", slow: true, timeout: 2 * time.Minute, flags: largeMessages, memory: 1536 << 20, run: unreadEvents},
	}
}

const acceptEvents = "Accept: text/event-stream\r\n"

// manyStreams opens as many streams as possible, over HTTP/2, where the number of connections does
// not bound them.
func manyStreams(ctx context.Context, s *scenario) {
	const addrs, conns, streams = 4, 8, 100
	var h2conns [addrs * conns]*http2Conn
	parallel(len(h2conns), 16, func(i int) {
		f, err := s.dialHTTP2(ctx, attackerAddr(i/conns))
		if err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		h2conns[i] = f
		go f.readFrames()
		for k := range streams {
			// Fifty names of each address are within its budget of new names.
			name := fmt.Sprint("stream", i/conns, "-", (i%conns*streams+k)%50)
			if _, err := f.openStream("GET", "/inbox", name, true, hpack.HeaderField{Name: "accept", Value: "text/event-stream"}); err != nil {
				return
			}
		}
	})
	sleep(ctx, 3*time.Second)
	s.checkNewClient(ctx, 64<<10)
	responses, resets := closeAll(h2conns[:])
	s.addFigure("%d addresses, %d streams requested: %d answers, %d reset", addrs, len(h2conns)*streams, responses, resets)
}

// stalledEvents opens streams over HTTP/2 and grants no window for them. Good clients, one with an
// event stream, must not notice.
func stalledEvents(addrs int, d time.Duration) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		attacking, stop := context.WithTimeout(ctx, d)
		defer stop()
		listener := s.peer("listener", calleeAddr)
		events, err := s.openEvents(ctx, listener.Name, calleeAddr, "?after=")
		if err != nil {
			s.fail("good stream: %v", err)
			return
		}
		defer events.Close()
		defer listener.HTTP.CloseIdleConnections()
		var opened, refused atomic.Int64
		const connsPerAddr = 5
		parallel(addrs*connsPerAddr, addrs*connsPerAddr, func(i int) {
			s.stallEvents(attacking, attackerAddr(i/connsPerAddr), &opened, &refused)
		})
		s.addFigure("%d streams opened, %d answered or reset", opened.Load(), refused.Load())
		if err := listener.Send(ctx, listener.Name, "text/plain", []byte("still here"), 0); err != nil {
			s.fail("send to a good stream: %v", err)
		}
		if e, err := events.next(); err != nil || e.Body != "still here" {
			s.fail("good stream: got %+v, %v, want the message", e, err)
		}
	}
}

func (s *scenario) stallEvents(ctx context.Context, from string, opened, refused *atomic.Int64) {
	const maxStreams = 100 // of a connection
	accept := hpack.HeaderField{Name: "accept", Value: "text/event-stream"}
	for ctx.Err() == nil {
		f, err := s.dialHTTP2(ctx, from, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		if err != nil {
			sleep(ctx, 50*time.Millisecond)
			continue
		}
		go f.readFrames()
		for n := int64(0); err == nil && ctx.Err() == nil; {
			if n-f.resets.Load() >= maxStreams {
				sleep(ctx, 10*time.Millisecond)
				continue
			}
			if _, err = f.openStream("GET", "/inbox", fmt.Sprint("staller", from, n%20), true, accept); err == nil {
				n++
				opened.Add(1)
			}
			sleep(ctx, 5*time.Millisecond)
		}
		refused.Add(f.resets.Load())
		f.Close()
	}
}

// eventReader reads an event stream over HTTP/1.1.
type eventReader struct {
	body io.ReadCloser
	from *bufio.Reader
}

// streamEvent is a message of an event stream, or its end.
type streamEvent struct {
	ID   uint64
	Kind string
	Body string
}

// openEvents opens an event stream.
func (s *scenario) openEvents(ctx context.Context, name, from, query string) (*eventReader, error) {
	p := s.peer(name, from)
	p.HTTP.Timeout = 0
	r, err := http.NewRequestWithContext(ctx, "GET", p.Server+"/inbox"+query, nil)
	if err != nil {
		return nil, err
	}
	r.SetBasicAuth(p.Name, p.Password)
	r.Header.Set("Accept", "text/event-stream")
	resp, err := p.HTTP.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("event stream: got %s", resp.Status)
	}
	return &eventReader{resp.Body, bufio.NewReader(resp.Body)}, nil
}

// Close ends the stream.
func (e *eventReader) Close() { e.body.Close() }

// next returns the next event.
func (e *eventReader) next() (found streamEvent, err error) {
	for {
		line, err := e.from.ReadString('\n')
		if err != nil {
			return found, err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "id":
			found.ID, _ = strconv.ParseUint(value, 10, 64) // the ID of an end is a word
		case "event":
			found.Kind = value
		case "data":
			if found.Kind == "message" {
				err = json.Unmarshal([]byte(value), &found)
			}
		case "":
			if found.Kind != "" {
				return found, nil
			}
		}
		if err != nil {
			return found, err
		}
	}
}

// supersedeStorm has clients take a mailbox from one another as fast as they can, while messages
// arrive. Then its owner must receive all of them, in order.
func supersedeStorm(webSockets bool) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		const messages, takers = 60, 12
		owner, sender := s.peer("contested", clientAddr), s.peer("storm-sender", "127.200.1.2")
		defer owner.HTTP.CloseIdleConnections()
		defer sender.HTTP.CloseIdleConnections()
		if err := wantStatus(ctx, owner, "GET", "?wait=0", http.StatusNoContent); err != nil {
			s.fail("owner: %v", err)
			return
		}
		storm, stop := context.WithCancel(ctx)
		var taken atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			parallel(takers, takers, func(i int) {
				for k := 0; storm.Err() == nil; k++ {
					if s.takeMailbox(storm, attackerAddr(i), webSockets) == nil {
						taken.Add(1)
					} else {
						sleep(storm, 20*time.Millisecond)
					}
				}
			})
		}()
		for i := range messages {
			if err := sender.Send(ctx, owner.Name, "text/plain", fmt.Appendf(nil, "%d", i), 0); err != nil {
				s.fail("message %d: %v", i, err)
			}
			sleep(ctx, 30*time.Millisecond)
		}
		stop()
		<-done
		s.addFigure("%d clients took the mailbox %d times while %d messages arrived", takers, taken.Load(), messages)
		s.wantNumbers(ctx, owner.Name, messages)
	}
}

// takeMailbox receives in the mailbox for a moment, without an acknowledgement.
func (s *scenario) takeMailbox(ctx context.Context, from string, webSocket bool) error {
	if webSocket {
		w, err := s.helloWS(ctx, from, "contested", " after=")
		if err == nil {
			w.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			_, _, _ = w.readFrame()
			w.Close()
		}
		return err
	}
	events, err := s.openEvents(ctx, "contested", from, "?after=")
	if err == nil {
		events.Close()
	}
	return err
}

// wantNumbers receives and acknowledges the numbers below n.
func (s *scenario) wantNumbers(ctx context.Context, name string, n int) {
	owner := s.peer(name, clientAddr)
	defer owner.HTTP.CloseIdleConnections()
	for i := range n {
		m, err := owner.Receive(ctx)
		if err != nil || string(m.Body) != strconv.Itoa(i) {
			s.fail("%s: got %q, %v, want %d", name, m.Body, err, i)
			return
		}
	}
}

// neverAcknowledge opens streams over both transports whose mailboxes are filled. They must get
// the window and no more, and lose nothing.
func neverAcknowledge(ctx context.Context, s *scenario) {
	const window, more = 64, 30
	for k, name := range []string{"silent-sse", "silent-ws"} {
		sender := s.peer("sender-"+name, attackerAddr(10+k))
		next, end, err := s.openSilent(ctx, name, attackerAddr(k), k == 1)
		if err != nil {
			s.fail("%s: %v", name, err)
			return
		}
		for i := range window + more {
			if err := sender.Send(ctx, name, "text/plain", strconv.AppendInt(nil, int64(i), 10), 0); err != nil {
				s.fail("%s: message %d: %v", name, i, err)
			}
		}
		sender.HTTP.CloseIdleConnections()
		for i := range window {
			if body, err := next(30 * time.Second); err != nil || body != strconv.Itoa(i) {
				s.fail("%s: got %q, %v, want %d", name, body, err, i)
				break
			}
		}
		if body, err := next(time.Second); err == nil {
			s.fail("%s: got %q beyond the window", name, body)
		}
		end()
		s.wantNumbers(ctx, name, window+more)
		s.addFigure("%s: %d of %d messages until the first acknowledgement", name, window, window+more)
	}
}

// openSilent opens a stream and returns a function that reads the next message within a time.
func (s *scenario) openSilent(ctx context.Context, name, from string, webSocket bool) (next func(time.Duration) (string, error), end func(), err error) {
	if webSocket {
		w, err := s.helloWS(ctx, from, name, " after=")
		return func(d time.Duration) (string, error) {
			w.SetReadDeadline(time.Now().Add(d))
			_, frame, err := w.readFrame()
			return frame[strings.LastIndexByte(frame, ' ')+1:], err
		}, func() { w.Close() }, err
	}
	events, err := s.openEvents(ctx, name, from, "?after=")
	return func(d time.Duration) (string, error) {
		defer time.AfterFunc(d, events.Close).Stop()
		e, err := events.next()
		return e.Body, err
	}, func() { events.Close() }, err
}

// oddStreams sends fields and IDs that no client sends.
func oddStreams(ctx context.Context, s *scenario) {
	get := func(fields string) string { return requestHead("GET", "/inbox", "odd") + fields + "\r\n" }
	ack := func(query string) string {
		return requestHead("POST", "/inbox/ack"+query, "odd") + "Content-Length: 0\r\n\r\n"
	}
	nines := strings.Repeat("9", 12<<10)
	cases := []oversizeCase{
		{"a Last-Event-ID of 12 KiB", get(acceptEvents + "Last-Event-ID: " + nines + "\r\n"), []int{200, 400}},
		{"a Last-Event-ID of text", get(acceptEvents + "Last-Event-ID: " + strings.Repeat("x", 12<<10) + "\r\n"), []int{400}},
		{"a negative Last-Event-ID", get(acceptEvents + "Last-Event-ID: -1\r\n"), []int{400}},
		{"an Accept of 12 KiB", get("Accept: " + strings.Repeat("text/event-stream;q=0,", 600) + "text/event-stream\r\n"), []int{200}},
		{"an Accept of 12 KiB of parameters", get("Accept: text/event-stream" + strings.Repeat(";a=b", 3000) + "\r\n"), []int{200, 204}},
		{"90 Accept fields", get(strings.Repeat("Accept: text/plain\r\n", 90) + acceptEvents), []int{200}},
		{"ack without an ID", ack(""), []int{400}},
		{"ack of an empty ID", ack("?upTo="), []int{204, 400}},
		{"ack of a negative ID", ack("?upTo=-1"), []int{400}},
		{"ack of the largest ID", ack("?upTo=18446744073709551615"), []int{204}},
		{"ack of 12 KiB", ack("?upTo=" + nines), []int{204, 400}},
		{"two acks", ack("?upTo=1&upTo=2"), []int{204, 400}},
		{"ack by GET", requestHead("GET", "/inbox/ack?upTo=1", "odd") + "\r\n", []int{405}},
	}
	for i, b := range cases {
		if got, err := s.streamStatus(ctx, attackerAddr(i), b.request); !containsStatus(got, b.want) {
			s.fail("%s: got %d (%v), want one of %v", b.name, got, err, b.want)
		}
	}
	s.addFigure("%d cases, each refused or harmless", len(cases))
}

// streamStatus returns the status of a response that can be a stream.
func (s *scenario) streamStatus(ctx context.Context, from, request string) (int, error) {
	c, err := s.dial(ctx, from, "http/1.1")
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	go io.WriteString(c, request)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, nil
}

// unreadEvents has messages that exceed the kernel's buffers written to clients that do not read.
func unreadEvents(ctx context.Context, s *scenario) {
	s.leaveUnread(ctx, "after 30 s", func(i int, name string) error {
		c, err := s.dialSmallBuffer(ctx, attackerAddr(i), "http/1.1")
		if err == nil {
			_, err = io.WriteString(c, requestHead("GET", "/inbox?after=", name)+acceptEvents+"\r\n")
		}
		return err
	})
}

// leaveUnread queues large messages and lets a receiver of each mailbox not read them. The server
// must end the receivers, and keep the messages.
func (s *scenario) leaveUnread(ctx context.Context, when string, receive func(i int, name string) error) {
	const conns, writeTimeout = 8, 30 * time.Second
	files := s.proc.OpenFiles()
	parallel(conns, conns, func(i int) {
		name := fmt.Sprint("unread", i)
		p := s.peer(name, attackerAddr(i))
		err := wantStatus(ctx, p, "GET", "?wait=0", http.StatusNoContent)
		if err == nil {
			var got int
			if got, err = requestStatus(ctx, p, "POST", "?to="+name, bytes.NewReader(make([]byte, largeMessage))); err == nil && got != http.StatusOK {
				err = fmt.Errorf("got %d", got)
			}
		}
		p.HTTP.CloseIdleConnections()
		if err == nil {
			err = receive(i, name)
		}
		if err != nil {
			s.fail("connection %d: %v", i, err)
		}
	})
	began := time.Now()
	sleep(ctx, writeTimeout)
	for ; time.Since(began) < writeTimeout+20*time.Second && s.proc.OpenFiles() > files+4; sleep(ctx, 200*time.Millisecond) {
	}
	if open := s.proc.OpenFiles(); open > files+4 {
		s.fail("got %d open files, want %d as before", open, files)
	}
	s.addFigure("%d receivers of 6 MiB ended %s", conns, when)
	for i := range conns {
		p := s.peer(fmt.Sprint("unread", i), attackerAddr(i))
		m, err := p.Receive(ctx)
		if err != nil || len(m.Body) != largeMessage {
			s.fail("mailbox %d: got %d bytes, %v, want the message", i, len(m.Body), err)
		}
		p.HTTP.CloseIdleConnections()
	}
}
