package attack

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"inbox/e2e"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"
)

// callTimeout bounds the time until a call connects, also on a busy machine.
const callTimeout = 30 * time.Second

// call connects two peers through the server and sends a message over a data channel. Either
// peer can be the first one.
func (s *scenario) call(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	caller, callee := s.peer("caller", callerAddr), s.peer("callee", calleeAddr)
	defer caller.HTTP.CloseIdleConnections()
	defer callee.HTTP.CloseIdleConnections()
	received := make(chan string, 1)
	failed := make(chan error, 2)
	for _, side := range []func() error{
		func() error { return runCaller(ctx, caller) },
		func() error { return runCallee(ctx, callee, received) },
	} {
		go func() {
			if err := side(); err != nil {
				failed <- err
			}
		}()
	}
	select {
	case <-received:
		return nil
	case err := <-failed:
		return fmt.Errorf("call: %w", err)
	case <-ctx.Done():
		return fmt.Errorf("timeout after %v: the call did not connect", callTimeout)
	}
}

// runCaller calls the callee and sends a message.
func runCaller(ctx context.Context, c *e2e.Client) error {
	pc, err := newPeerConnection(ctx)
	if err != nil {
		return err
	}
	channel, err := pc.CreateDataChannel("test", nil)
	if err != nil {
		return err
	}
	channel.OnOpen(func() { _ = channel.SendText("hello") }) // on failure the call times out
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	if err := sendDescription(ctx, c, pc, offer, "callee"); err != nil {
		return err
	}
	_, err = receiveDescription(ctx, c, pc)
	return err
}

// runCallee answers a call and passes on the message.
func runCallee(ctx context.Context, c *e2e.Client, received chan<- string) error {
	pc, err := newPeerConnection(ctx)
	if err != nil {
		return err
	}
	pc.OnDataChannel(func(channel *webrtc.DataChannel) {
		channel.OnMessage(func(m webrtc.DataChannelMessage) { received <- string(m.Data) })
	})
	from, err := receiveDescription(ctx, c, pc)
	if err != nil {
		return err
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return err
	}
	return sendDescription(ctx, c, pc, answer, from)
}

// newPeerConnection creates a connection that uses only loopback. It is closed when ctx ends.
func newPeerConnection(ctx context.Context) (*webrtc.PeerConnection, error) {
	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
	if err == nil {
		context.AfterFunc(ctx, func() { pc.Close() })
	}
	return pc, err
}

// sendDescription sends a description with all its candidates.
func sendDescription(ctx context.Context, c *e2e.Client, pc *webrtc.PeerConnection, d webrtc.SessionDescription, to string) error {
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(d); err != nil {
		return err
	}
	select {
	case <-gathered:
	case <-ctx.Done():
		return ctx.Err()
	}
	text, err := json.Marshal(pc.LocalDescription())
	if err != nil {
		return err
	}
	return c.Send(ctx, to, "application/json", text, 20*time.Second)
}

// receiveDescription receives and sets the description of the other peer.
func receiveDescription(ctx context.Context, c *e2e.Client, pc *webrtc.PeerConnection) (from string, err error) {
	m, err := c.Receive(ctx)
	if err != nil {
		return "", err
	}
	var d webrtc.SessionDescription
	if err := json.Unmarshal(m.Body, &d); err != nil {
		return "", err
	}
	return m.From, pc.SetRemoteDescription(d)
}
