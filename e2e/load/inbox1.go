package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
)

// inboxConn is a WebSocket with the protocol inbox.1, which can send and receive.
type inboxConn struct {
	*wsConn
	ref    uint64 // of the last message sent
	stored uint64 // through this ref

	head     []byte
	ackEvery int
	unread   int    // messages that are not acknowledged
	lastID   []byte // of the last message received
}

// openInbox connects a peer and claims its name. All messages are acknowledged.
func openInbox(ctx context.Context, t target, source net.IP, name string) (*inboxConn, error) {
	ws, err := dialWebSocket(ctx, t, source, "/inbox")
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, ws.close)()
	c := &inboxConn{wsConn: ws, ackEvery: ackEvery}
	if err = ws.write(opText, []byte("hello "+name+" loads%20of%20it after=")); err == nil {
		_, err = ws.readUntil("welcome ")
	}
	if err != nil {
		ws.close()
		return nil, err
	}
	return c, nil
}

// sendTo sends a message without waiting for the answer of the server.
func (c *inboxConn) sendTo(to string, body []byte) error {
	c.ref++
	c.head = strconv.AppendUint(append(c.head[:0], "send "...), c.ref, 10)
	c.head = append(append(append(c.head, ' '), to...), " sdp "...)
	return c.write(opText, c.head, body)
}

// handle handles a message of the server. It returns the body of one that another peer sent.
func (c *inboxConn) handle(m []byte) (body []byte, isMessage bool, err error) {
	kind, rest, _ := bytes.Cut(m, []byte(" "))
	switch string(kind) {
	case "ok":
		c.stored, err = strconv.ParseUint(string(rest), 10, 64)
		return nil, false, err
	case "msg":
		parts := bytes.SplitN(rest, []byte(" "), 4)
		if len(parts) != 4 {
			return nil, false, fmt.Errorf("got %q, want msg ID FROM TYPE BODY", m[:min(len(m), 100)])
		}
		c.lastID = append(c.lastID[:0], parts[0]...)
		if c.unread++; c.unread >= c.ackEvery {
			err = c.acknowledge()
		}
		return parts[3], true, err
	}
	return nil, false, fmt.Errorf("got %q", m[:min(len(m), 300)])
}

// acknowledge acknowledges what was received.
func (c *inboxConn) acknowledge() error {
	if c.unread == 0 {
		return nil
	}
	c.unread = 0
	return c.write(opText, []byte("ack "), c.lastID)
}

// inboxSender sends to one name.
type inboxSender struct {
	*inboxConn
	to string
}

func (s *inboxSender) send(body []byte) error { return s.sendTo(s.to, body) }

func (s *inboxSender) settle() error {
	for s.stored < s.ref {
		m, err := s.read()
		if err == nil {
			_, _, err = s.handle(m)
		}
		if err != nil {
			return fmt.Errorf("wait until messages are stored: %w", err)
		}
	}
	return nil
}

// settle acknowledges what was received.
func (c *inboxConn) settle() error { return c.acknowledge() }

// receive returns the next message.
func (c *inboxConn) receive() ([]byte, error) {
	for {
		m, err := c.read()
		if err != nil {
			return nil, err
		}
		if body, isMessage, err := c.handle(m); isMessage || err != nil {
			return body, err
		}
	}
}

func openWebSocket(ctx context.Context, _ config, t target, n int) (sender, receiver, error) {
	from, to := pairNames(t, n)
	c, err := openInbox(ctx, t, pairAddress(n), from)
	return connect(&inboxSender{c, to}, err, func() (*inboxConn, error) { return openInbox(ctx, t, pairAddress(n), to) })
}
