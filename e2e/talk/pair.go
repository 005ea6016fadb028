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

// peer is one client with connections and an address of its own.
type peer struct {
	server, name string
	http         *http.Client
	*Tally
}

// newPeer speaks HTTP/1.1 or HTTP/2. A connection over which nothing comes back
// is given up as fast as a request.
func newPeer(s Server, name string, i int, t *Tally) *peer {
	return &peer{s.URL, name, &http.Client{Timeout: s.requestLimit(), Transport: &http.Transport{
		DialContext:       s.dial(i),
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // one that the server made itself
		ForceAttemptHTTP2: i%2 == 0,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: s.requestLimit() / 4, PingTimeout: s.requestLimit() / 4},
	}}, t}
}

func (p *peer) ask(ctx context.Context, method string, query url.Values, body string) (*http.Response, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, p.server+"/inbox?"+query.Encode(), strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	r.GetBody = nil // tried again by us alone, so that it is counted
	r.SetBasicAuth(p.name, "secret of "+p.name)
	answer, err := p.http.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer, string(text), err
}

// Pair is a sender, its receiver, and the numbers that passed between them.
type Pair struct {
	sender, receiver *peer
	mu               sync.Mutex
	accepted, seen   map[string]int
	sent             bool // the sender is done
}

// NewPair is pair number i. Names of pairs on one server differ.
func NewPair(s Server, name string, i int, t *Tally) *Pair {
	return &Pair{
		sender: newPeer(s, name+"-sender", i, t), receiver: newPeer(s, name+"-receiver", i, t),
		accepted: map[string]int{}, seen: map[string]int{},
	}
}

// send sends numbers until ctx ends, each until it is accepted.
func (p *Pair) send(ctx context.Context) {
	query := url.Values{"to": {p.receiver.name}, "wait": {"5"}}
	for n := 0; ctx.Err() == nil; n++ {
		text := strconv.Itoa(n)
		for ctx.Err() == nil {
			// Not ctx: whoever hangs up does not know whether it was accepted.
			answer, _, err := p.sender.ask(context.Background(), "POST", query, text)
			if err == nil && answer.StatusCode == http.StatusOK {
				p.note(p.accepted, text)
				p.sender.add(func(f *Figures) { f.Accepted++ })
				break
			}
			p.sender.failed(ctx, answer, err)
		}
		sleep(ctx, pace)
	}
}

func (p *Pair) note(in map[string]int, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in[text]++
}

// receive acknowledges what comes until ctx ends, or all that was accepted has come.
func (p *Pair) receive(ctx context.Context) {
	after, last := "", time.Now()
	for ctx.Err() == nil && !p.done() {
		answer, text, err := p.receiver.ask(ctx, "GET", url.Values{"after": {after}, "wait": {"2"}}, "")
		switch {
		case err == nil && answer.StatusCode == http.StatusOK:
			after = answer.Header.Get("X-Message-Id")
			p.note(p.seen, text)
			gap := time.Since(last)
			last = time.Now()
			p.receiver.add(func(f *Figures) { f.Gap = max(f.Gap, gap) })
		case err == nil && answer.StatusCode == http.StatusNoContent && answer.Header.Get("Retry-After") == "":
		default:
			p.receiver.failed(ctx, answer, err)
		}
	}
}

func (p *Pair) done() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.sent {
		return false
	}
	for text := range p.accepted {
		if p.seen[text] == 0 {
			return false
		}
	}
	return true
}

// Forget demands no more of what was accepted until now: the server has crashed.
func (p *Pair) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.accepted)
}

// Accepted is how many messages are demanded to arrive.
func (p *Pair) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.accepted)
}

// Arrived is how many different messages have arrived.
func (p *Pair) Arrived() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.seen)
}

// Leave gives the receiver's name up, as far as that goes, and hangs up.
func (p *Pair) Leave() {
	_, _, _ = p.receiver.ask(context.Background(), "DELETE", nil, "")
	p.receiver.http.CloseIdleConnections()
}

// Run sends until ctx ends, then gives what is on its way time to arrive, and counts.
func (p *Pair) Run(ctx context.Context) {
	arrivals, end := context.WithCancel(context.Background())
	defer end()
	received := make(chan struct{})
	go func() { defer close(received); p.receive(arrivals) }()
	p.send(ctx)
	p.mu.Lock()
	p.sent = true
	p.mu.Unlock()
	defer time.AfterFunc(arrivalTime, end).Stop()
	<-received
	p.count()
	for _, peer := range []*peer{p.sender, p.receiver} {
		peer.http.CloseIdleConnections()
	}
}

func (p *Pair) count() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sender.add(func(f *Figures) {
		for text := range p.accepted {
			if p.seen[text] == 0 {
				f.Lost++
			}
		}
		for _, times := range p.seen {
			f.Delivered++
			f.Duplicated += times - 1
		}
	})
}
