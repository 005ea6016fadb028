package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"time"
)

// heartbeatInterval is that of PeerJS.
const heartbeatInterval = 5 * time.Second

// peerConn is a client of PeerJS.
type peerConn struct {
	*wsConn
	offer    []byte // without the body
	prepared []byte
	body     []byte // of prepared
	message  peerMessage
}

// peerMessage is a message of PeerServer.
type peerMessage struct {
	Type, Src, Dst string
	Payload        struct{ SDP string }
}

func openPeerServer(ctx context.Context, _ config, t target, n int) (sender, receiver, error) {
	from, to := pairNames(t, n)
	address := pairAddress(n)
	s, err := openPeer(ctx, t, address, from, to)
	return connect(s, err, func() (*peerConn, error) { return openPeer(ctx, t, address, to, from) })
}

func openPeer(ctx context.Context, t target, source net.IP, name, partner string) (*peerConn, error) {
	ws, err := dialWebSocket(ctx, t, source, "/peerjs?key=peerjs&id="+name+"&token=load")
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, ws.close)()
	if _, err := ws.readUntil(`{"type":"OPEN"`); err != nil {
		ws.close()
		return nil, err
	}
	return &peerConn{wsConn: ws, offer: []byte(`{"type":"OFFER","dst":"` + partner + `","payload":{"sdp":`)}, nil
}

func (c *peerConn) send(body []byte) error {
	if !bytes.Equal(c.body, body) {
		text, err := json.Marshal(string(body))
		if err != nil {
			return err
		}
		c.body, c.prepared = body, append(append(bytes.Clone(c.offer), text...), "}}"...)
	}
	return c.write(opText, c.prepared)
}

// settle sends a heartbeat: PeerServer drops a client after a minute without one.
func (c *peerConn) settle() error { return c.heartbeat() }

func (c *peerConn) heartbeat() error { return c.write(opText, []byte(`{"type":"HEARTBEAT"}`)) }

// run receives messages, and sends heartbeats, as PeerJS does.
func (c *peerConn) run(deliver func([]byte)) error {
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		// The first one comes at any time: the peers of a crowd begin to receive at once, but the
		// clients of a server do not.
		next := time.NewTimer(rand.N(heartbeatInterval))
		defer next.Stop()
		for {
			select {
			case <-next.C:
				_ = c.heartbeat() // reading reports the end
				next.Reset(heartbeatInterval)
			case <-ended:
				return
			}
		}
	}()
	return receiveAll(c, deliver)
}

func (c *peerConn) receive() ([]byte, error) {
	for {
		m, err := c.read()
		if err != nil {
			return nil, err
		}
		c.message = peerMessage{}
		if err := json.Unmarshal(m, &c.message); err != nil {
			return nil, err
		}
		switch c.message.Type {
		case "OFFER":
			return []byte(c.message.Payload.SDP), nil
		case "ERROR", "EXPIRE", "LEAVE":
			return nil, fmt.Errorf("got %q", m[:min(len(m), 300)])
		}
	}
}

// topicConn is a client of y-webrtc.
type topicConn struct {
	*wsConn
	publish  []byte // without the body
	prepared []byte
	body     []byte // of prepared
}

func openYWebRTC(ctx context.Context, _ config, t target, n int) (sender, receiver, error) {
	_, topic := pairNames(t, n)
	s, err := openTopic(ctx, t, n, topic)
	return connect(s, err, func() (*topicConn, error) {
		c, err := openTopic(ctx, t, n, topic)
		if err != nil {
			return nil, err
		}
		// The answer to a ping follows the subscription.
		if err = c.write(opText, []byte(`{"type":"subscribe","topics":["`+topic+`"]}`)); err == nil {
			err = c.ping()
		}
		return c, err
	})
}

func openTopic(ctx context.Context, t target, n int, topic string) (*topicConn, error) {
	ws, err := dialWebSocket(ctx, t, pairAddress(n), "/topics") // y-webrtc's server takes every path
	if err != nil {
		return nil, err
	}
	return &topicConn{wsConn: ws, publish: []byte(`{"type":"publish","topic":"` + topic + `","sdp":`)}, nil
}

func (c *topicConn) ping() error {
	if err := c.write(opText, []byte(`{"type":"ping"}`)); err != nil {
		return err
	}
	_, err := c.readUntil(`{"type":"pong"`)
	return err
}

func (c *topicConn) send(body []byte) error {
	if !bytes.Equal(c.body, body) {
		text, err := json.Marshal(string(body))
		if err != nil {
			return err
		}
		c.body, c.prepared = body, append(append(bytes.Clone(c.publish), text...), '}')
	}
	return c.write(opText, c.prepared)
}

// settle also answers the pings that have arrived.
func (c *topicConn) settle() error { return c.ping() }

func (c *topicConn) receive() ([]byte, error) {
	m, err := c.read()
	if err != nil {
		return nil, err
	}
	var published struct{ SDP string }
	err = json.Unmarshal(m, &published)
	return []byte(published.SDP), err
}
