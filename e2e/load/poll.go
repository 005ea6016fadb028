package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
)

// poster sends messages with POST.
type poster struct {
	*httpConn
	host, name, path string
	request          []byte
	body             []byte // of request
}

func newPoster(ctx context.Context, t target, n int, from, to string) (*poster, error) {
	c, err := dialHTTP(ctx, t, pairAddress(n))
	if err != nil {
		return nil, err
	}
	return &poster{httpConn: c, host: t.addr, name: from, path: "/inbox?to=" + to}, nil
}

func (p *poster) send(body []byte) error {
	if !bytes.Equal(body, p.body) {
		p.body, p.request = body, request("POST "+p.path, p.host, p.name, "", body)
	}
	resp, err := p.roundTrip(p.request, []byte{})
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%v %w", statusText(resp), err)
	}
	return nil
}

// poller receives messages with GET.
type poller struct {
	*httpConn
	host, name  string
	get         []byte // without acknowledgements
	acknowledge bool
	lastID      string
	received    []byte
}

// openPoll also opens a pair of the bare handler.
func openPoll(ctx context.Context, cfg config, t target, n int) (sender, receiver, error) {
	from, to := pairNames(t, n)
	s, err := newPoster(ctx, t, n, from, to)
	return connect(s, err, func() (*poller, error) { return newPoller(ctx, cfg, t, n, to) })
}

func newPoller(ctx context.Context, cfg config, t target, n int, name string) (*poller, error) {
	c, err := dialHTTP(ctx, t, pairAddress(n))
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, c.close)() // in case a server ignores wait=0
	// A restarted server can still have a message that an earlier run did not acknowledge.
	resp, err := c.roundTrip(request("GET /inbox?wait=0", t.addr, name, "", nil), nil)
	if err == nil && resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("got %s", resp.Status)
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("claim name: %w (the server must answer GETs of empty mailboxes at once)", err)
	}
	return &poller{httpConn: c, host: t.addr, name: name, get: request("GET /inbox", t.addr, name, "", nil),
		acknowledge: cfg.acknowledge, received: make([]byte, cfg.size)}, nil
}

func (p *poller) receive() ([]byte, error) {
	get := p.get
	if p.acknowledge {
		get = bytes.Replace(get, []byte(" HTTP"), []byte("?after="+p.lastID+" HTTP"), 1)
	}
	resp, err := p.roundTrip(get, p.received)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%v %w", statusText(resp), err)
	}
	p.lastID = resp.Header.Get("X-Message-Id")
	return p.received, nil
}

// http2Poster sends messages with POST over HTTP/2.
type http2Poster struct {
	*http2Conn
	name, path string
}

func (p *http2Poster) send(body []byte) error {
	h, _, err := p.roundTrip("POST", p.path, p.name, body, nil)
	if err == nil && h.status != "200" {
		err = fmt.Errorf("got status %s", h.status)
	}
	return err
}

func newHTTP2Poster(ctx context.Context, t target, n int, from, to string) (*http2Poster, error) {
	c, err := dialHTTP2(ctx, t, pairAddress(n))
	if err != nil {
		return nil, err
	}
	return &http2Poster{c, from, "/inbox?to=" + to}, nil
}

// http2Poller receives messages with GET over HTTP/2.
type http2Poller struct {
	*http2Conn
	name, lastID string
	acknowledge  bool
	received     []byte
}

func openPollHTTP2(ctx context.Context, cfg config, t target, n int) (sender, receiver, error) {
	from, to := pairNames(t, n)
	s, err := newHTTP2Poster(ctx, t, n, from, to)
	return connect(s, err, func() (*http2Poller, error) {
		c, err := dialHTTP2(ctx, t, pairAddress(n))
		if err != nil {
			return nil, err
		}
		defer context.AfterFunc(ctx, c.close)()
		if _, _, err = c.roundTrip("GET", "/inbox?wait=0", to, nil, nil); err != nil {
			c.close()
		}
		return &http2Poller{http2Conn: c, name: to, acknowledge: cfg.acknowledge}, err
	})
}

func (p *http2Poller) receive() (body []byte, err error) {
	path := "/inbox"
	if p.acknowledge {
		path += "?after=" + p.lastID
	}
	var h header
	h, p.received, err = p.roundTrip("GET", path, p.name, nil, p.received[:0])
	if err == nil && h.status != "200" {
		err = fmt.Errorf("got status %s", h.status)
	}
	p.lastID = h.id
	return p.received, err
}
