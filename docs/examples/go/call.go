package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
)

const (
	// connectTimeout bounds the time from an offer until the peers are connected. It includes
	// the time that the server waits for an absent peer.
	connectTimeout = sendWait + 20*time.Second
	// batchDelay collects candidates: they come in bursts, and one request can carry them all.
	batchDelay = 100 * time.Millisecond
	// A connection without packets is disconnected after silence, and has failed after twice as
	// long. The caller then calls again. The peers send a packet every keepalive.
	silence   = 5 * time.Second
	keepalive = time.Second
	// maxCalls bounds the calls of others, as everyone who knows a name can call it.
	maxCalls = 16
)

// message is a signal of a call, as a JSON object.
type message struct {
	Call        string                     `json:"call"`           // chosen by the caller, random
	Ring        []string                   `json:"ring,omitempty"` // not null: asks the callee for an offer
	Bye         string                     `json:"bye,omitempty"`  // not empty: the sender has ended the call
	N           int                        `json:"n"`              // numbers the signals of a peer, from 1
	Description *webrtc.SessionDescription `json:"description,omitempty"`
	Answers     int                        `json:"answers,omitempty"` // in an answer, the n of its offer
	Candidates  []webrtc.ICECandidateInit  `json:"candidates,omitempty"`
}

// endpoint receives the messages of a mailbox and has one call with each peer.
type endpoint struct {
	mailbox *Mailbox
	policy  webrtc.ICETransportPolicy
	lines   chan string

	mu    sync.Mutex
	calls map[string]*call // by the name of the peer
}

// call is a WebRTC connection with the signals that set it up.
type call struct {
	id, peer string
	mailbox  *Mailbox
	pc       *webrtc.PeerConnection
	ctx      context.Context
	close    context.CancelCauseFunc
	outgoing chan message
	received int                       // the last n
	early    []webrtc.ICECandidateInit // candidates that came before the description
}

// newCall creates a connection that replaces the last one with this peer. Its relay has fresh
// credentials, as those of the server expire.
func (e *endpoint) newCall(ctx context.Context, peer, id string) (*call, error) {
	configuration := webrtc.Configuration{ICETransportPolicy: e.policy}
	if err := e.mailbox.Get(ctx, "/ice", &configuration); err != nil {
		return nil, fmt.Errorf("get the ICE servers: %w", err)
	}
	settings := webrtc.SettingEngine{}
	settings.SetICETimeouts(silence, silence, keepalive)
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(configuration)
	if err != nil {
		return nil, err
	}
	c := &call{id: id, peer: peer, mailbox: e.mailbox, pc: pc, outgoing: make(chan message, 64)}
	c.ctx, c.close = context.WithCancelCause(ctx)
	if !e.add(c) {
		c.close(errors.New("too many calls"))
		return nil, errors.Join(errors.New("too many calls"), pc.Close())
	}
	context.AfterFunc(c.ctx, func() { e.remove(c); _ = pc.Close() })
	timer := time.AfterFunc(connectTimeout, func() { c.close(errors.New("not connected in time")) })
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		switch s {
		case webrtc.PeerConnectionStateConnected:
			timer.Stop()
		case webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
			c.close(fmt.Errorf("connection %s", s))
		}
	})
	pc.OnICECandidate(func(candidate *webrtc.ICECandidate) {
		if candidate != nil { // nil: no more candidates
			c.queue(message{Candidates: []webrtc.ICECandidateInit{candidate.ToJSON()}})
		}
	})
	go c.sendMessages()
	return c, nil
}

func (e *endpoint) add(c *call) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if old := e.calls[c.peer]; old != nil {
		old.close(errors.New("replaced by a newer call"))
	} else if len(e.calls) >= maxCalls {
		return false
	}
	e.calls[c.peer] = c
	return true
}

func (e *endpoint) remove(c *call) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.calls[c.peer] == c {
		delete(e.calls, c.peer)
	}
}

// receive handles a message of another mailbox. Everyone can send anything.
func (e *endpoint) receive(ctx context.Context, from string, body []byte) {
	var m message
	if json.Unmarshal(body, &m) != nil || m.Call == "" {
		return
	}
	e.mu.Lock()
	c := e.calls[from]
	e.mu.Unlock()
	begins := m.Ring != nil || m.Description != nil && m.Description.Type == webrtc.SDPTypeOffer
	if begins && (c == nil || c.id != m.Call) {
		var err error
		if c, err = e.answer(ctx, from, m); err != nil {
			log.Printf("call of %s: %v", from, err)
			return
		}
	}
	switch {
	case c == nil || c.id != m.Call: // of an earlier call
	case m.Bye != "":
		c.close(errors.New("the peer has hung up"))
	case m.N > c.received: // else a duplicate
		c.received = m.N
		if err := c.handle(m); err != nil {
			log.Printf("signal of %s: %v", from, err)
		}
	}
}

// answer creates a connection for the first signal of a call. The first signal of connect.js is a
// ring: the callee makes the offer, so that both sides have fresh ICE servers. That client expects a
// channel with the ID 0, and can create others.
func (e *endpoint) answer(ctx context.Context, from string, first message) (*call, error) {
	c, err := e.newCall(ctx, from, first.Call)
	if err != nil {
		return nil, err
	}
	c.pc.OnDataChannel(c.echo)
	if first.Ring != nil {
		err = c.offer("data", &webrtc.DataChannelInit{Negotiated: new(true), ID: new(uint16(0))})
	}
	if err != nil {
		c.close(err)
	}
	return c, err
}

// offer sends the first offer of this side, for a data channel.
func (c *call) offer(label string, options *webrtc.DataChannelInit) error {
	if _, err := c.pc.CreateDataChannel(label, options); err != nil {
		return err
	}
	offer, err := c.pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	return c.setLocal(offer, 0)
}

// echo returns what arrives on a data channel.
func (c *call) echo(channel *webrtc.DataChannel) {
	log.Printf("%s has opened %q", c.peer, channel.Label())
	channel.OnMessage(func(m webrtc.DataChannelMessage) {
		var err error
		if m.IsString {
			err = channel.SendText(string(m.Data))
		} else {
			err = channel.Send(m.Data)
		}
		if err != nil {
			c.close(err)
		}
	})
}

// handle applies a description, then the candidates that came with it and before it.
func (c *call) handle(m message) error {
	if m.Description != nil {
		if err := c.pc.SetRemoteDescription(*m.Description); err != nil {
			return err
		}
	}
	c.early = append(c.early, m.Candidates...)
	if c.pc.RemoteDescription() == nil {
		return nil
	}
	for _, candidate := range c.early {
		if err := c.pc.AddICECandidate(candidate); err != nil {
			log.Printf("candidate of %s: %v", c.peer, err) // another one can work
		}
	}
	c.early = nil
	if m.Description == nil || m.Description.Type != webrtc.SDPTypeOffer {
		return nil
	}
	answer, err := c.pc.CreateAnswer(nil)
	if err != nil {
		return err
	}
	return c.setLocal(answer, m.N)
}

// setLocal sends a description and then gathers candidates, so that they follow it.
func (c *call) setLocal(d webrtc.SessionDescription, answers int) error {
	c.queue(message{Description: &d, Answers: answers})
	return c.pc.SetLocalDescription(d)
}

func (c *call) queue(m message) {
	select {
	case c.outgoing <- m:
	case <-c.ctx.Done():
	}
}

// sendMessages sends the signals of this side one after the other, so that they stay in order.
func (c *call) sendMessages() {
	var next message
	for n := 1; ; n++ {
		m := next
		next = message{}
		if m.Description == nil && m.Candidates == nil {
			select {
			case m = <-c.outgoing:
			case <-c.ctx.Done():
				return
			}
		}
		if m.Description == nil {
			m.Candidates, next = c.collect(m.Candidates)
		}
		m.Call, m.N = c.id, n
		if err := c.mailbox.Send(c.ctx, c.peer, m); err != nil {
			c.close(err) // without its signals, the call cannot connect
			return
		}
	}
}

// collect adds the candidates of the next moment. It ends early at a description, which it returns.
func (c *call) collect(candidates []webrtc.ICECandidateInit) ([]webrtc.ICECandidateInit, message) {
	timeout := time.After(batchDelay)
	for {
		select {
		case m := <-c.outgoing:
			if m.Description != nil {
				return candidates, m
			}
			candidates = append(candidates, m.Candidates...)
		case <-timeout:
			return candidates, message{}
		case <-c.ctx.Done():
			return candidates, message{}
		}
	}
}
