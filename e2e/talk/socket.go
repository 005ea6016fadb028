package talk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/coder/websocket"
)

// socket is a WebSocket with the subprotocol inbox.1, for one goroutine.
type socket struct {
	conn *websocket.Conn
	ref  int // of the last send
}

// maxFrameBytes bounds what a server sends.
const maxFrameBytes = 1 << 20

// dialSocket connects and says hello. A response is a refusal.
func (p *peer) dialSocket(ctx context.Context, after string) (*socket, *http.Response, error) {
	client := *p.httpClient
	client.Timeout = 0 // with one, the connection cannot be written to
	client.Transport = p.socketTransport
	conn, resp, err := websocket.Dial(ctx, p.server+"/inbox", &websocket.DialOptions{HTTPClient: &client, Subprotocols: []string{"inbox.1"}})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, resp, nil
		}
		return nil, nil, err
	}
	conn.SetReadLimit(maxFrameBytes)
	s := &socket{conn: conn}
	hello := fmt.Sprintf("hello %s %s after=%s", url.PathEscape(p.name), url.PathEscape(p.password()), after)
	err = s.write(ctx, hello)
	for err == nil {
		var f frame
		f, err = s.read(ctx)
		switch f.verb {
		case "welcome":
			return s, nil, nil
		case "fail", "end":
			s.conn.CloseNow()
			return nil, f.response(), nil
		}
	}
	s.conn.CloseNow()
	return nil, nil, err
}

func (s *socket) write(ctx context.Context, text string) error {
	return s.conn.Write(ctx, websocket.MessageText, []byte(text))
}

// frame is a frame of the server: its first two fields and the rest.
type frame struct{ verb, id, rest string }

func (s *socket) read(ctx context.Context) (f frame, err error) {
	_, text, err := s.conn.Read(ctx)
	if err != nil {
		return f, err
	}
	f.verb, f.rest, _ = strings.Cut(string(text), " ")
	f.id, f.rest, _ = strings.Cut(f.rest, " ")
	return f, nil
}

// body returns the body of a msg, which has the fields FROM and TYPE before it.
func (f frame) body() string { return strings.SplitN(f.rest, " ", 3)[2] }

// response returns what a fail or an end stands for.
func (f frame) response() *http.Response {
	if f.verb == "end" {
		return endOfStream()
	}
	var problem struct{ Status, RetryAfter int }
	_ = json.Unmarshal([]byte(f.rest), &problem) // without a status, the response is unexpected
	resp := &http.Response{StatusCode: problem.Status, Status: f.rest, Header: http.Header{}}
	if problem.RetryAfter > 0 {
		resp.Header.Set("Retry-After", strconv.Itoa(problem.RetryAfter))
	}
	return resp
}

var errEnded = errors.New("the WebSocket ended before the answer")

// sendFrame sends a message over the WebSocket of the peer, and connects if it has none. Every
// second one waits for its recipient, as a POST does.
func (p *peer) sendFrame(ctx context.Context, to, text string) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	if p.socket == nil {
		s, resp, err := p.dialSocket(ctx, "")
		if s == nil {
			return resp, err
		}
		p.socket = s
	}
	resp, err := p.socket.send(ctx, to, text)
	if err != nil {
		p.closeSocket()
	}
	return resp, err
}

func (s *socket) send(ctx context.Context, to, text string) (*http.Response, error) {
	s.ref++
	recipient := url.PathEscape(to)
	if s.ref%2 == 1 {
		recipient += "?wait=5"
	}
	err := s.write(ctx, fmt.Sprintf("send %d %s text %s", s.ref, recipient, text))
	for err == nil {
		var f frame
		f, err = s.read(ctx)
		switch {
		case f.verb == "end":
			return nil, errEnded
		case f.verb == "ok" && f.id == strconv.Itoa(s.ref):
			return &http.Response{StatusCode: http.StatusOK}, nil
		case f.verb == "fail" && f.id == strconv.Itoa(s.ref):
			return f.response(), nil
		}
	}
	return nil, err
}

func (p *peer) closeSocket() {
	if p.socket != nil {
		p.socket.conn.CloseNow()
		p.socket = nil
	}
}

// receiveFrames is receiveEvents over a WebSocket.
func (p *peer) receiveFrames(ctx context.Context, after string, each func(id, text string)) (*http.Response, error) {
	s, resp, err := p.dialSocketIn(ctx, after)
	if s == nil {
		return resp, err
	}
	defer s.conn.CloseNow()
	for n := 1; ; {
		f, err := s.readIn(ctx, p)
		switch {
		case err != nil:
			return nil, err
		case f.verb == "end":
			return f.response(), nil
		case f.verb != "msg":
			return nil, fmt.Errorf("got %+v, want msg or end", f)
		}
		each(f.id, f.body())
		if n%ackEvery == 0 {
			if err := s.write(ctx, "ack "+f.id); err != nil {
				return nil, err
			}
		}
		n++
	}
}

func (p *peer) dialSocketIn(ctx context.Context, after string) (*socket, *http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return p.dialSocket(ctx, after)
}

// readIn reads the next frame within the timeout of a request.
func (s *socket) readIn(ctx context.Context, p *peer) (frame, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return s.read(ctx)
}
