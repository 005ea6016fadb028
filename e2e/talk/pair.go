package talk

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// peer is a client with its own connections and source address.
type peer struct {
	server, name    string
	transport       Transport
	timeout         time.Duration // of a request
	httpClient      *http.Client
	socketTransport *http.Transport // HTTP/1.1
	socket          *socket         // of a sender; nil without one
	*Counters
}

// newPeer creates a peer that speaks HTTP/1.1 or HTTP/2, depending on i. Dead HTTP/2
// connections are detected by pings within half the request timeout.
func newPeer(s Server, name string, i int, t *Counters) *peer {
	newTransport := func() *http.Transport {
		return &http.Transport{
			DialContext:     s.dial(i),
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // self-signed certificate
		}
	}
	transport, timeout := newTransport(), s.requestTimeout()
	transport.ForceAttemptHTTP2 = i%2 == 0
	transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: timeout / 4, PingTimeout: timeout / 4}
	return &peer{
		server: s.URL, name: name, transport: s.Transport, timeout: timeout, Counters: t,
		httpClient: &http.Client{Timeout: timeout, Transport: transport}, socketTransport: newTransport(),
	}
}

func (p *peer) password() string { return "secret of " + p.name }

// close closes the connections that are not in use.
func (p *peer) close() {
	p.closeSocket()
	p.httpClient.CloseIdleConnections()
	p.socketTransport.CloseIdleConnections()
}

// send leaves a message in a mailbox. For ambiguous results it returns an error.
func (p *peer) send(to, text string) (*http.Response, error) {
	// Not the context of the caller: after a cancellation it is unknown if the message was accepted.
	ctx := context.Background()
	if p.transport == WebSocket {
		return p.sendFrame(ctx, to, text)
	}
	resp, _, err := p.do(ctx, "POST", "/inbox", url.Values{"to": {to}, "wait": {"5"}}, text)
	return resp, err
}

// receive passes the messages after one on until a response, or a stream, ends.
func (p *peer) receive(ctx context.Context, after string, each func(id, text string)) (*http.Response, error) {
	switch p.transport {
	case SSE:
		return p.receiveEvents(ctx, after, each)
	case WebSocket:
		return p.receiveFrames(ctx, after, each)
	}
	resp, text, err := p.do(ctx, "GET", "/inbox", url.Values{"after": {after}, "wait": {"2"}}, "")
	if err == nil && resp.StatusCode == http.StatusOK {
		each(resp.Header.Get("X-Message-Id"), text)
	}
	return resp, err
}

// Pair is a sender and a receiver, with the numbers that were sent and received.
type Pair struct {
	sender, receiver   *peer
	mu                 sync.Mutex
	accepted, received map[string]int
	highest            int // number received
	senderDone         bool
}

// NewPair creates pair number i. Names of pairs on one server must differ.
func NewPair(s Server, name string, i int, t *Counters) *Pair {
	return &Pair{
		sender: newPeer(s, name+"-sender", i, t), receiver: newPeer(s, name+"-receiver", i, t),
		accepted: map[string]int{}, received: map[string]int{},
	}
}

// send sends increasing numbers until ctx ends and repeats each until it is accepted.
func (p *Pair) send(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		text := strconv.Itoa(n)
		for ctx.Err() == nil {
			resp, err := p.sender.send(p.receiver.name, text)
			if err == nil && resp.StatusCode == http.StatusOK {
				p.countMessage(p.accepted, text)
				p.sender.update(func(f *Stats) { f.Accepted++ })
				break
			}
			p.sender.recordFailure(ctx, resp, err)
		}
		sleep(ctx, sendInterval)
	}
}

func (p *Pair) countMessage(counts map[string]int, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts[text]++
}

// receive receives and acknowledges messages until ctx ends or all accepted ones have
// arrived.
func (p *Pair) receive(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	after, last := "", time.Now()
	each := func(id, text string) {
		after = id
		p.arrived(text)
		gap := time.Since(last)
		last = time.Now()
		p.receiver.update(func(f *Stats) { f.MaxGap = max(f.MaxGap, gap) })
		if p.allReceived() {
			cancel() // ends a stream
		}
	}
	for ctx.Err() == nil && !p.allReceived() {
		resp, err := p.receiver.receive(ctx, after, each)
		isEmpty := err == nil && resp.StatusCode == http.StatusNoContent && resp.Header.Get("Retry-After") == ""
		if !isEmpty && (err != nil || resp.StatusCode != http.StatusOK) {
			p.receiver.recordFailure(ctx, resp, err)
		}
	}
}

// arrived counts a number that was received. The first arrival of each must be in order.
func (p *Pair) arrived(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.received[text]++
	n, err := strconv.Atoi(text)
	if err == nil && p.received[text] == 1 {
		if n < p.highest {
			p.receiver.update(func(f *Stats) { f.Misordered++ })
		}
		p.highest = max(p.highest, n)
	}
}

func (p *Pair) allReceived() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.senderDone {
		return false
	}
	for text := range p.accepted {
		if p.received[text] == 0 {
			return false
		}
	}
	return true
}

// ResetAccepted excludes the messages accepted so far from the check for losses,
// because the server has crashed.
func (p *Pair) ResetAccepted() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.accepted)
}

// Accepted returns the number of messages that must arrive.
func (p *Pair) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.accepted)
}

// Received returns the number of distinct messages received.
func (p *Pair) Received() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.received)
}

// DeleteInbox deletes the receiver's mailbox, ignoring errors, and closes its idle
// connections.
func (p *Pair) DeleteInbox() {
	_, _, _ = p.receiver.do(context.Background(), "DELETE", "/inbox", nil, "")
	p.receiver.close()
}

// Run sends until ctx ends, waits up to drainTimeout for outstanding messages, and
// updates the counters.
func (p *Pair) Run(ctx context.Context) {
	receiving, stopReceiving := context.WithCancel(context.Background())
	defer stopReceiving()
	received := make(chan struct{})
	go func() { defer close(received); p.receive(receiving) }()
	p.send(ctx)
	p.mu.Lock()
	p.senderDone = true
	p.mu.Unlock()
	if p.allReceived() {
		stopReceiving() // ends a stream
	}
	defer time.AfterFunc(drainTimeout, stopReceiving).Stop()
	<-received
	p.updateTotals()
	for _, peer := range []*peer{p.sender, p.receiver} {
		peer.close()
	}
}

func (p *Pair) updateTotals() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sender.update(func(f *Stats) {
		for text := range p.accepted {
			if p.received[text] == 0 {
				f.Lost++
			}
		}
		for _, times := range p.received {
			f.Delivered++
			f.Duplicated += times - 1
		}
	})
}
