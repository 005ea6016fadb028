package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// ackEvery is how many messages a client acknowledges together.
const ackEvery = 8

// eventReader reads the messages of an event stream.
type eventReader struct {
	lines *bufio.Reader
	id    string // of the last message
	event struct {
		Body   string
		Body64 []byte
	}
}

func newEventReader(r io.Reader) *eventReader {
	return &eventReader{lines: bufio.NewReaderSize(r, 4096)}
}

// next returns the body of the next message.
func (e *eventReader) next() ([]byte, error) {
	ended := false
	for {
		line, err := e.lines.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		field, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(": "))
		switch string(field) {
		case "id":
			e.id = string(value)
		case "event":
			ended = string(value) == "end"
		case "data":
			if ended {
				return nil, fmt.Errorf("the stream ended: %s", value)
			}
			return e.decode(value)
		}
	}
}

func (e *eventReader) decode(data []byte) ([]byte, error) {
	e.event.Body, e.event.Body64 = "", nil
	if err := json.Unmarshal(data, &e.event); err != nil {
		return nil, err
	}
	if e.event.Body64 != nil {
		return e.event.Body64, nil
	}
	return []byte(e.event.Body), nil
}

// eventReceiver receives an event stream, and acknowledges messages in groups.
type eventReceiver struct {
	events *eventReader
	ack    func(id string) error
	closes []func()

	ackEvery, unread int // messages; unread are not acknowledged
}

func (r *eventReceiver) receive() ([]byte, error) {
	body, err := r.events.next()
	if err != nil {
		return nil, err
	}
	if r.unread++; r.unread >= r.ackEvery {
		r.unread, err = 0, r.ack(r.events.id)
	}
	return body, err
}

func (r *eventReceiver) close() {
	for _, f := range r.closes {
		f()
	}
}

const ackPath = "/inbox/ack?upTo="

func openEvents(ctx context.Context, _ config, t target, n int) (sender, receiver, error) {
	from, to := pairNames(t, n)
	s, err := newPoster(ctx, t, n, from, to)
	return connect(s, err, func() (*eventReceiver, error) {
		acks, err := dialHTTP(ctx, t, pairAddress(n))
		if err != nil {
			return nil, err
		}
		events, c, err := beginEvents(ctx, t, pairAddress(n), to)
		if err != nil {
			acks.close()
			return nil, err
		}
		ack := func(id string) error {
			resp, err := acks.roundTrip(request("POST "+ackPath+id, t.addr, to, "", []byte{}), nil)
			if err == nil && resp.StatusCode != http.StatusNoContent {
				err = fmt.Errorf("acknowledge: got %s", resp.Status)
			}
			return err
		}
		return &eventReceiver{events: events, ack: ack, closes: []func(){acks.close, c.close}, ackEvery: ackEvery}, nil
	})
}

// beginEvents opens an event stream with acknowledgements over HTTP/1.1.
func beginEvents(ctx context.Context, t target, source []byte, name string) (*eventReader, *httpConn, error) {
	c, err := dialHTTP(ctx, t, source)
	if err != nil {
		return nil, nil, err
	}
	resp, err := c.begin(request("GET /inbox?after=", t.addr, name, "Accept: text/event-stream\r\n", nil))
	if err == nil && (resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")) {
		err = fmt.Errorf("open event stream: got %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	if err != nil {
		c.close()
		return nil, nil, err
	}
	return newEventReader(resp.Body), c, nil
}

func openEventsHTTP2(ctx context.Context, _ config, t target, n int) (sender, receiver, error) {
	from, to := pairNames(t, n)
	s, err := newHTTP2Poster(ctx, t, n, from, to)
	return connect(s, err, func() (*eventReceiver, error) {
		events, c, err := beginEventsHTTP2(ctx, t, pairAddress(n), to)
		if err != nil {
			return nil, err
		}
		ack := func(id string) error { // its response is read with the stream
			_, err := c.begin("POST", ackPath+id, to, []byte{})
			return err
		}
		return &eventReceiver{events: events, ack: ack, closes: []func(){c.close}, ackEvery: ackEvery}, nil
	})
}

// beginEventsHTTP2 opens an event stream with acknowledgements over HTTP/2.
func beginEventsHTTP2(ctx context.Context, t target, source []byte, name string) (*eventReader, *http2Conn, error) {
	c, err := dialHTTP2(ctx, t, source)
	if err != nil {
		return nil, nil, err
	}
	stream, err := c.begin("GET", "/inbox?after=", name, nil, hpack.HeaderField{Name: "accept", Value: "text/event-stream"})
	ended := false
	if err == nil {
		_, ended, err = c.read(stream)
	}
	if err == nil && (ended || c.header.status != "200") {
		err = errors.New("open event stream: got status " + c.header.status)
	}
	if err != nil {
		c.close()
		return nil, nil, err
	}
	return newEventReader(&streamBody{conn: c, stream: stream}), c, nil
}
