package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"
)

// peer is one side of a call: a WebRTC connection and a mailbox.
type peer struct {
	client            *Client
	remoteName        string
	pc                *webrtc.PeerConnection
	outgoing          chan signal
	pendingCandidates []webrtc.ICECandidateInit // received before the description
	sentSignals       atomic.Int32
	payload           []byte
	payloadHash       chan []byte // hash of the payload, from the remote peer
}

// signal is a message between peers.
type signal struct {
	Description *webrtc.SessionDescription `json:"description,omitempty"`
	Candidate   *webrtc.ICECandidateInit   `json:"candidate,omitempty"`
}

func newPeer(server string, pair int, name, remoteName string) (*peer, error) {
	pc, err := newPeerConnection()
	if err != nil {
		return nil, err
	}
	p := &peer{
		client: &Client{
			Server: server, HTTP: newHTTPClient(pair),
			Name: fmt.Sprint(name, "-", pair), Password: fmt.Sprint("secret of ", name),
		},
		remoteName:  fmt.Sprint(remoteName, "-", pair),
		pc:          pc,
		outgoing:    make(chan signal, 32),
		payloadHash: make(chan []byte, 1),
	}
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c != nil {
			init := c.ToJSON()
			p.outgoing <- signal{Candidate: &init}
		}
	})
	pc.OnDataChannel(p.receivePayload)
	return p, nil
}

// newPeerConnection uses loopback candidates only.
func newPeerConnection() (*webrtc.PeerConnection, error) {
	var s webrtc.SettingEngine
	s.SetIncludeLoopbackCandidate(true)
	s.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	return webrtc.NewAPI(webrtc.WithSettingEngine(s)).NewPeerConnection(webrtc.Configuration{})
}

// newHTTPClient connects from a separate loopback address for each pair, like separate
// users. The server has a self-signed certificate.
func newHTTPClient(pair int) *http.Client {
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(1+pair))}}
	return &http.Client{Transport: &http.Transport{
		DialContext:       from.DialContext,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true,
	}}
}

// offer starts the call.
func (p *peer) offer() error {
	channel, err := p.pc.CreateDataChannel("payload", nil)
	if err != nil {
		return err
	}
	p.sendPayload(channel)
	offer, err := p.pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	return p.sendDescription(offer)
}

// sendDescription sends a description before it starts the gathering of candidates.
func (p *peer) sendDescription(d webrtc.SessionDescription) error {
	if strings.Contains(d.SDP, "a=candidate") {
		return errors.New("got a description with candidates, want them trickled")
	}
	p.outgoing <- signal{Description: &d}
	return p.pc.SetLocalDescription(d)
}

// runSignaling sends and receives signals until ctx ends.
func (p *peer) runSignaling(ctx context.Context) error {
	defer p.client.HTTP.CloseIdleConnections()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	done := make(chan struct{})
	go func() { defer close(done); stop(p.send(ctx)) }()
	err := p.receive(ctx)
	stop(err)
	<-done
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

func (p *peer) send(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s := <-p.outgoing:
			text, err := json.Marshal(s)
			if err != nil {
				return err
			}
			// Wait if the remote peer has not claimed its name yet.
			if err := p.client.Send(ctx, p.remoteName, "application/json", text, 20*time.Second); err != nil {
				return err
			}
			p.sentSignals.Add(1)
		}
	}
}

func (p *peer) receive(ctx context.Context) error {
	for {
		m, err := p.client.Receive(ctx)
		if err != nil {
			return err
		}
		if m.From != p.remoteName || m.Type != "application/json" {
			return fmt.Errorf("got a message of type %s from %s, want application/json from %s", m.Type, m.From, p.remoteName)
		}
		var s signal
		if err := json.Unmarshal(m.Body, &s); err != nil {
			return err
		}
		if err := p.handle(s); err != nil {
			return err
		}
	}
}

func (p *peer) handle(s signal) error {
	switch {
	case s.Candidate != nil && p.pc.RemoteDescription() == nil:
		p.pendingCandidates = append(p.pendingCandidates, *s.Candidate)
		return nil
	case s.Candidate != nil:
		return p.pc.AddICECandidate(*s.Candidate)
	case s.Description == nil:
		return errors.New("got an empty signal")
	}
	if err := p.pc.SetRemoteDescription(*s.Description); err != nil {
		return err
	}
	for _, c := range p.pendingCandidates {
		if err := p.pc.AddICECandidate(c); err != nil {
			return err
		}
	}
	if s.Description.Type != webrtc.SDPTypeOffer {
		return nil
	}
	answer, err := p.pc.CreateAnswer(nil)
	if err != nil {
		return err
	}
	return p.sendDescription(answer)
}

// sendPayload sends the payload once the channel is open, and receives its hash.
func (p *peer) sendPayload(channel *webrtc.DataChannel) {
	const chunk = 16 << 10 // supported by every WebRTC implementation
	channel.OnOpen(func() {
		for rest := p.payload; len(rest) > 0; rest = rest[chunk:] {
			if channel.Send(rest[:chunk]) != nil {
				return // the missing hash makes the call fail
			}
		}
	})
	channel.OnMessage(func(m webrtc.DataChannelMessage) { p.payloadHash <- m.Data })
}

// receivePayload receives the payload and returns its hash.
func (p *peer) receivePayload(channel *webrtc.DataChannel) {
	hash, size := sha256.New(), 0
	channel.OnMessage(func(m webrtc.DataChannelMessage) {
		hash.Write(m.Data)
		if size += len(m.Data); size >= payloadBytes {
			_ = channel.Send(hash.Sum(nil)) // a missing hash makes the call fail
		}
	})
}
