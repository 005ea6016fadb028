package talk

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// peer is a client with its own connections and source address.
type peer struct {
	server, name string
	httpClient   *http.Client
	*Counters
}

// newPeer creates a peer that speaks HTTP/1.1 or HTTP/2, depending on i. Dead HTTP/2
// connections are detected by pings within half the request timeout.
func newPeer(s Server, name string, i int, t *Counters) *peer {
	return &peer{s.URL, name, &http.Client{Timeout: s.requestTimeout(), Transport: &http.Transport{
		DialContext:       s.dial(i),
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // self-signed certificate
		ForceAttemptHTTP2: i%2 == 0,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: s.requestTimeout() / 4, PingTimeout: s.requestTimeout() / 4},
	}}, t}
}

func (p *peer) request(
	ctx context.Context, method string, query url.Values, body string,
) (*http.Response, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, p.server+"/inbox?"+query.Encode(), strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	r.GetBody = nil // the transport must not retry: retries are counted here
	r.SetBasicAuth(p.name, "secret of "+p.name)
	resp, err := p.httpClient.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

// Pair is a sender and a receiver, with the numbers that were sent and received.
type Pair struct {
	sender, receiver   *peer
	mu                 sync.Mutex
	accepted, received map[string]int
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
	query := url.Values{"to": {p.receiver.name}, "wait": {"5"}}
	for n := 0; ctx.Err() == nil; n++ {
		text := strconv.Itoa(n)
		for ctx.Err() == nil {
			// Not ctx: after a cancellation it is unknown if the message was accepted.
			resp, _, err := p.sender.request(context.Background(), "POST", query, text)
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
	after, last := "", time.Now()
	for ctx.Err() == nil && !p.allReceived() {
		resp, text, err := p.receiver.request(ctx, "GET", url.Values{"after": {after}, "wait": {"2"}}, "")
		switch {
		case err == nil && resp.StatusCode == http.StatusOK:
			after = resp.Header.Get("X-Message-Id")
			p.countMessage(p.received, text)
			gap := time.Since(last)
			last = time.Now()
			p.receiver.update(func(f *Stats) { f.MaxGap = max(f.MaxGap, gap) })
		case err == nil && resp.StatusCode == http.StatusNoContent && resp.Header.Get("Retry-After") == "":
		default:
			p.receiver.recordFailure(ctx, resp, err)
		}
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
	_, _, _ = p.receiver.request(context.Background(), "DELETE", nil, "")
	p.receiver.httpClient.CloseIdleConnections()
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
	defer time.AfterFunc(drainTimeout, stopReceiving).Stop()
	<-received
	p.updateTotals()
	for _, peer := range []*peer{p.sender, p.receiver} {
		peer.httpClient.CloseIdleConnections()
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
