package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// peer stays connected, with one connection.
type peer struct {
	name, partner string
	source        net.IP
	link          link
	mu            sync.Mutex // guards the next two
	latencies     []time.Duration
	slow          []slowMessage
}

// link is the connection with which a peer receives.
type link interface {
	// run calls deliver for each message until the connection ends.
	run(deliver func(body []byte)) error
	close()
}

// Refused connections are tried again.
const (
	connectTries = 10
	retryAfter   = time.Second
)

// newPeer connects peer n. Two peers with adjacent numbers are partners.
func (c *crowd) newPeer(ctx context.Context, n int) (p *peer, err error) {
	name := func(n int) string { return "peer-" + strconv.Itoa(n) }
	p = &peer{name: name(n), partner: name(n ^ 1), source: peerAddress(n)}
	for range connectTries {
		if p.link, err = c.open(ctx, p); err == nil || ctx.Err() != nil {
			return p, err
		}
		time.Sleep(retryAfter)
	}
	return p, err
}

func (c *crowd) open(ctx context.Context, p *peer) (link, error) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	switch t := c.target; t.transport {
	case webSocket:
		conn, err := openInbox(ctx, t, p.source, p.name)
		if err != nil {
			return nil, err
		}
		conn.ackEvery = 1 // a client acknowledges after 50 ms, and these messages are seconds apart
		return webSocketLink{conn}, nil
	case peerJS:
		return openPeer(ctx, t, p.source, p.name, p.partner)
	case events:
		reader, conn, err := beginEvents(ctx, t, p.source, p.name)
		if err != nil {
			return nil, err
		}
		return c.eventLink(p, reader, conn.close), nil
	case eventsHTTP2:
		reader, conn, err := beginEventsHTTP2(ctx, t, p.source, p.name)
		if err != nil {
			return nil, err
		}
		return c.eventLink(p, reader, conn.close), nil
	case poll:
		conn, err := dialHTTP(ctx, t, p.source)
		return &pollLink{httpConn: conn, host: t.addr, name: p.name}, err
	case pollHTTP2:
		conn, err := dialHTTP2(ctx, t, p.source)
		return &http2PollLink{conn, p.name}, err
	}
	return nil, errors.New("unknown transport")
}

// eventLink acknowledges with requests on a connection that peers share.
func (c *crowd) eventLink(p *peer, reader *eventReader, close func()) *eventLink {
	ack := func(id string) error {
		return c.post(context.Background(), p, request("POST "+ackPath+id, c.target.addr, p.name, "", []byte{}))
	}
	return &eventLink{&eventReceiver{events: reader, ack: ack, closes: []func(){close}, ackEvery: 1}}
}

type webSocketLink struct{ *inboxConn }

func (l webSocketLink) run(deliver func([]byte)) error { return receiveAll(l.inboxConn, deliver) }

type eventLink struct{ *eventReceiver }

func (l eventLink) run(deliver func([]byte)) error { return receiveAll(l.eventReceiver, deliver) }

func receiveAll(r receiver, deliver func([]byte)) error {
	for {
		body, err := r.receive()
		if err != nil {
			return err
		}
		deliver(body)
	}
}

// pollLink polls with acknowledgements.
type pollLink struct {
	*httpConn
	host, name string
}

func (l *pollLink) run(deliver func([]byte)) error {
	id := ""
	var body bytes.Buffer
	for {
		resp, err := l.begin(request("GET /inbox?after="+id, l.host, l.name, "", nil))
		if err != nil {
			return err
		}
		body.Reset()
		if _, err := body.ReadFrom(resp.Body); err != nil {
			return err
		}
		switch resp.StatusCode {
		case http.StatusOK:
			id = resp.Header.Get("X-Message-Id")
			deliver(body.Bytes())
		case http.StatusNoContent:
		default:
			return fmt.Errorf("got %s: %s", resp.Status, body.Bytes())
		}
	}
}

// http2PollLink polls with acknowledgements over HTTP/2.
type http2PollLink struct {
	*http2Conn
	name string
}

func (l *http2PollLink) run(deliver func([]byte)) error {
	id := ""
	var body []byte
	for {
		h, got, err := l.roundTrip("GET", "/inbox?after="+id, l.name, nil, body[:0])
		if body = got; err != nil {
			return err
		}
		switch h.status {
		case "200":
			id = h.id
			deliver(body)
		case "204":
		default:
			return fmt.Errorf("got status %s: %s", h.status, body)
		}
	}
}

// posters returns how many connections the peers need to send, besides their own.
func (t transport) posters(peers int) int {
	if t == webSocket || t == peerJS {
		return 0
	}
	return peers/peersPerAddress + 1
}

// sharedPoster is a connection with which the peers of an address send requests.
type sharedPoster struct {
	mu   sync.Mutex
	conn *httpConn // nil before the first request
}

// send sends one message to the partner of a peer. It begins with the time.
func (c *crowd) send(ctx context.Context, p *peer) error {
	body := testBody(c.cfg.size)
	stamp(body, time.Since(started))
	switch l := p.link.(type) {
	case webSocketLink:
		return l.sendTo(p.partner, body)
	case *peerConn:
		return l.send(body)
	}
	return c.post(ctx, p, request("POST /inbox?to="+p.partner, c.target.addr, p.name, "", body))
}

// started is when the tool was started. Times of messages are measured from it with the monotonic
// clock: the other one can be set meanwhile.
var started = time.Now()

// stamp writes when a message is sent into its first bytes.
func stamp(body []byte, sent time.Duration) { copy(body, fmt.Sprintf("%016x", sent.Nanoseconds())) }

// sentAt returns when a message was sent.
func sentAt(body []byte) time.Duration {
	sent, err := strconv.ParseInt(string(body[:min(16, len(body))]), 16, 64)
	if err != nil {
		return 0 // a content of another peer, which shows as a high latency
	}
	return time.Duration(sent)
}

// post sends a request of a peer.
func (c *crowd) post(ctx context.Context, p *peer, request []byte) (err error) {
	c.mu.Lock()
	key := p.source.String()
	s := c.posters[key]
	if s == nil {
		s = &sharedPoster{}
		c.posters[key] = s
	}
	c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		if s.conn, err = dialHTTP(ctx, c.target, p.source); err != nil {
			return err
		}
	}
	resp, err := s.conn.roundTrip(request, nil)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("got %s", resp.Status)
	}
	return err
}

// closePosters closes the connections of posters: only those of peers are measured.
func (c *crowd) closePosters() {
	c.mu.Lock()
	posters := c.posters
	c.posters = map[string]*sharedPoster{}
	c.mu.Unlock()
	for _, s := range posters {
		s.mu.Lock()
		if s.conn != nil {
			s.conn.close()
		}
		s.mu.Unlock()
	}
}
