package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// sender sends messages to one receiver.
type sender interface {
	// send returns when the server has the message, or when it is written to a stream.
	send(body []byte) error
	close()
}

// settler is a sender or receiver that has something to do at the end of a round, such as to wait
// until the server has answered everything, or to show that it is alive.
type settler interface{ settle() error }

// receiver receives the messages of one name.
type receiver interface {
	// receive returns the next message, which is valid until the next call. It acknowledges as
	// clients do.
	receive() ([]byte, error)
	close()
}

// pair is a sender and a receiver.
type pair struct {
	sender   sender
	receiver receiver
	body     []byte
}

// setupTimeout bounds what comes before the first message of a pair.
const setupTimeout = 10 * time.Second

// newPair connects both peers and claims the name of the receiver.
func newPair(ctx context.Context, cfg config, t target, n int) (*pair, error) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	s, r, err := t.transport.open(ctx, cfg, t, n)
	if err != nil {
		return nil, err
	}
	return &pair{s, r, testBody(cfg.size)}, nil
}

// testBody returns a message that looks like the SDP of an offer.
func testBody(size int) []byte { return bytes.Repeat([]byte("v=0\r\n"), size/5+1)[:size] }

// relay sends one message and checks that the receiver gets it.
func (p *pair) relay() error {
	if err := p.sender.send(p.body); err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	received, err := p.receiver.receive()
	if err != nil {
		return fmt.Errorf("receive message: %w", err)
	}
	if !bytes.Equal(received, p.body) {
		return errors.New("receive message: content differs from the sent one")
	}
	return nil
}

// settle ends a round.
func (p *pair) settle() error {
	for _, peer := range []any{p.sender, p.receiver} {
		if s, ok := peer.(settler); ok {
			if err := s.settle(); err != nil {
				return fmt.Errorf("end of round: %w", err)
			}
		}
	}
	return nil
}

func (p *pair) close() {
	p.sender.close()
	p.receiver.close()
}

// pairNames returns the names of a sender and a receiver. Those of another transport are others, as
// the pairs of all transports are open together.
func pairNames(t target, n int) (from, to string) {
	suffix := string(t.transport) + "-" + strconv.Itoa(n)
	return "sender-" + suffix, "receiver-" + suffix
}

// transport is a protocol between a server and its clients.
type transport string

// The transports. The first six are those of this server; peerjs is the protocol of PeerServer.
const (
	poll        transport = "poll"
	pollHTTP2   transport = "poll-h2"
	events      transport = "sse"
	eventsHTTP2 transport = "sse-h2"
	webSocket   transport = "ws"
	peerJS      transport = "peerjs"
	peerServer  transport = "peerserver"
	yWebRTC     transport = "y-webrtc"
)

// ownTransports are those that this server has.
var ownTransports = []transport{poll, pollHTTP2, events, eventsHTTP2, webSocket, peerJS}

// needsTLS reports whether the transport exists over TLS only.
func (t transport) needsTLS() bool { return t == pollHTTP2 || t == eventsHTTP2 }

// open connects a sender and a receiver.
func (t transport) open(ctx context.Context, cfg config, to target, n int) (sender, receiver, error) {
	openers := map[transport]func(context.Context, config, target, int) (sender, receiver, error){
		poll: openPoll, pollHTTP2: openPollHTTP2, events: openEvents, eventsHTTP2: openEventsHTTP2,
		webSocket: openWebSocket, peerJS: openPeerServer, peerServer: openPeerServer, yWebRTC: openYWebRTC,
	}
	return openers[t](ctx, cfg, to, n)
}

// connect connects both peers of a pair, or closes the first if the second fails.
func connect[S sender, R receiver](s S, err error, open func() (R, error)) (sender, receiver, error) {
	if err != nil {
		return nil, nil, err
	}
	r, err := open()
	if err != nil {
		s.close()
		return nil, nil, err
	}
	return s, r, nil
}
