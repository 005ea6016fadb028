package turn

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"
)

// A pion peer runs in a process of its own on a host: it uses the names, addresses and
// trusted CAs of that host. The standard output of each peer is the input of the other one.

const (
	peerPayloadBytes = 256 << 10
	// peerTimeout bounds a call, also on a busy machine.
	peerTimeout = 60 * time.Second
)

// peerConfig is passed to a peer as its argument.
type peerConfig struct {
	Server  string // name of the server
	Mailbox string // for the credentials
	Scheme  string // of the TURN URL to use: turn or turns
	Offers  bool
}

// runPeer makes a relay-only call and transfers a payload. It prints the description for the
// other peer, and reads that of the other peer.
func runPeer(argument string, in io.Reader, out io.Writer) error {
	var c peerConfig
	if err := json.Unmarshal([]byte(argument), &c); err != nil {
		return err
	}
	pc, err := c.connect()
	if err != nil {
		return err
	}
	defer pc.Close()
	done := make(chan error, 1)
	time.AfterFunc(peerTimeout, func() { done <- fmt.Errorf("timeout after %v in state %s", peerTimeout, pc.ConnectionState()) })
	lines := bufio.NewReader(in)
	if c.Offers {
		err = offer(pc, lines, out, done)
	} else {
		err = answer(pc, lines, out, done)
	}
	if err != nil {
		return err
	}
	if err := <-done; err != nil {
		return err
	}
	return c.checkPair(pc)
}

// connect creates a connection with the relay of the server.
func (c peerConfig) connect() (*webrtc.PeerConnection, error) {
	r, err := http.NewRequest("GET", "https://"+c.Server+"/ice", nil)
	if err != nil {
		return nil, err
	}
	r.SetBasicAuth(c.Mailbox, "password of "+c.Mailbox)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var config webrtc.Configuration
	if err := json.NewDecoder(resp.Body).Decode(&config); err != nil {
		return nil, fmt.Errorf("GET /ice: status %d: %w", resp.StatusCode, err)
	}
	config.ICEServers, config.ICETransportPolicy = c.relays(config.ICEServers), webrtc.ICETransportPolicyRelay
	var settings webrtc.SettingEngine
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	return webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(config)
}

// relays returns only the URLs with the scheme of the peer.
func (c peerConfig) relays(all []webrtc.ICEServer) (kept []webrtc.ICEServer) {
	for _, s := range all {
		for _, url := range s.URLs {
			if strings.HasPrefix(url, c.Scheme+":") {
				kept = append(kept, webrtc.ICEServer{URLs: []string{url}, Username: s.Username, Credential: s.Credential})
			}
		}
	}
	return kept
}

// offer starts the call, sends the payload and waits for its hash.
func offer(pc *webrtc.PeerConnection, in *bufio.Reader, out io.Writer, done chan<- error) error {
	channel, err := pc.CreateDataChannel("payload", nil)
	if err != nil {
		return err
	}
	payload := make([]byte, peerPayloadBytes)
	rand.Read(payload)
	channel.OnOpen(func() {
		for rest := payload; len(rest) > 0; rest = rest[min(len(rest), 16<<10):] {
			_ = channel.Send(rest[:min(len(rest), 16<<10)]) // on failure the hash is missing
		}
	})
	channel.OnMessage(func(m webrtc.DataChannelMessage) {
		want := sha256.Sum256(payload)
		if !bytes.Equal(m.Data, want[:]) {
			done <- fmt.Errorf("got a payload with hash %x, want %x", m.Data, want)
			return
		}
		done <- nil
	})
	description, err := pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	if err := send(pc, description, out); err != nil {
		return err
	}
	return receive(pc, in)
}

// answer receives the payload and sends its hash. It ends when the other peer does.
func answer(pc *webrtc.PeerConnection, in *bufio.Reader, out io.Writer, done chan<- error) error {
	pc.OnDataChannel(func(channel *webrtc.DataChannel) {
		hash, size := sha256.New(), 0
		channel.OnMessage(func(m webrtc.DataChannelMessage) {
			hash.Write(m.Data)
			if size += len(m.Data); size == peerPayloadBytes {
				_ = channel.Send(hash.Sum(nil)) // on failure the other peer fails
				go func() {
					_, err := in.ReadByte()
					done <- ignoreEOF(err)
				}()
			}
		})
	})
	if err := receive(pc, in); err != nil {
		return err
	}
	description, err := pc.CreateAnswer(nil)
	if err != nil {
		return err
	}
	return send(pc, description, out)
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// send prints a description with all candidates.
func send(pc *webrtc.PeerConnection, d webrtc.SessionDescription, out io.Writer) error {
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(d); err != nil {
		return err
	}
	select {
	case <-gathered:
	case <-time.After(peerTimeout):
		return fmt.Errorf("timeout after %v: candidates not gathered", peerTimeout)
	}
	return json.NewEncoder(out).Encode(pc.LocalDescription())
}

func receive(pc *webrtc.PeerConnection, in *bufio.Reader) error {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("no description from the other peer: %w", err)
	}
	var d webrtc.SessionDescription
	if err := json.Unmarshal(line, &d); err != nil {
		return err
	}
	return pc.SetRemoteDescription(d)
}

// checkPair checks that both candidates are relayed, and the transport of the own one.
func (c peerConfig) checkPair(pc *webrtc.PeerConnection) error {
	pair, err := pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil {
		return err
	}
	want := map[string]string{"turn": "udp", "turns": "tls"}[c.Scheme]
	for _, s := range pc.GetStats() {
		own, ok := s.(webrtc.ICECandidateStats)
		if ok && own.Type == webrtc.StatsTypeLocalCandidate && own.RelayProtocol != want {
			return fmt.Errorf("got relay protocol %q, want %s", own.RelayProtocol, want)
		}
	}
	if pair.Local.Typ != webrtc.ICECandidateTypeRelay || pair.Remote.Typ != webrtc.ICECandidateTypeRelay {
		return fmt.Errorf("got candidates %s and %s, want both relayed", pair.Local.Typ, pair.Remote.Typ)
	}
	return nil
}
