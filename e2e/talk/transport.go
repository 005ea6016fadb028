package talk

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Transport is how a receiver gets its messages.
type Transport string

// The transports. With WebSocket, senders use one as well.
const (
	Poll      Transport = "poll" // also the zero value
	SSE       Transport = "sse"
	WebSocket Transport = "websocket"
)

// Transports are all of them.
var Transports = []Transport{Poll, SSE, WebSocket}

// ackEvery is how many messages of a stream one acknowledgement covers.
const ackEvery = 8

// endOfStream is the response that stands for the end of a stream that a server announced.
func endOfStream() *http.Response {
	return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{"Retry-After": {"1"}}}
}

// receiveEvents opens an event stream after a message and passes its messages on until it ends. A
// stream without a message for the timeout of a request is given up: its sender never pauses that
// long.
func (p *peer) receiveEvents(ctx context.Context, after string, each func(id, text string)) (*http.Response, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := time.AfterFunc(p.timeout, cancel)
	defer idle.Stop()
	r, err := p.newRequest(ctx, "GET", "/inbox", url.Values{"after": {after}}, "")
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "text/event-stream")
	client := *p.httpClient
	client.Timeout = 0
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return resp, nil
	}
	events := bufio.NewReader(resp.Body)
	for n := 1; ; n++ {
		e, err := readEvent(events)
		if err != nil {
			return nil, err
		}
		if e.kind == "end" {
			return endOfStream(), nil
		}
		each(e.id, e.body)
		idle.Reset(p.timeout)
		if n%ackEvery == 0 {
			// Without a response, the next acknowledgement, or after, covers these messages too.
			_, _, _ = p.do(ctx, "POST", "/inbox/ack", url.Values{"upTo": {e.id}}, "")
		}
	}
}

// event is a message, or the end, of a stream.
type event struct{ id, kind, body string }

// readEvent reads the next event (HTML Standard, section 9.2). It skips comments and retry.
func readEvent(from *bufio.Reader) (e event, err error) {
	for {
		line, err := from.ReadString('\n')
		if err != nil {
			return e, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			e.id = value
		case "event":
			e.kind = value
		case "data":
			e.body = value
		case "":
			if e.kind == "message" {
				e.body, err = messageBody(e.body)
			}
			if e.kind != "" {
				return e, err
			}
		}
	}
}

func messageBody(data string) (string, error) {
	var m struct {
		Body   string
		Body64 []byte
	}
	if err := json.Unmarshal([]byte(data), &m); err != nil {
		return "", fmt.Errorf("event %q: %w", data, err)
	}
	return m.Body + string(m.Body64), nil
}

// newRequest returns a request that the transport does not repeat: repetitions are counted here.
func (p *peer) newRequest(ctx context.Context, method, path string, query url.Values, body string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, p.server+path+"?"+query.Encode(), strings.NewReader(body))
	if err == nil {
		r.GetBody = nil
		r.SetBasicAuth(p.name, p.password())
	}
	return r, err
}

// do sends a request and reads the response.
func (p *peer) do(ctx context.Context, method, path string, query url.Values, body string) (*http.Response, string, error) {
	r, err := p.newRequest(ctx, method, path, query, body)
	if err != nil {
		return nil, "", err
	}
	resp, err := p.httpClient.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}
