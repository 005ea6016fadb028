package soak

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	pace         = 10 * time.Millisecond // between two messages of a sender
	pause        = 20 * time.Millisecond // before a request is tried again
	requestLimit = time.Minute
)

// tally counts what all peers met.
type tally struct {
	mu                          sync.Mutex
	accepted, delivered         int
	duplicated, lost            int
	refused, broken, unexpected int // connections, requests without an answer, answers
	told                        int // to come back, by a server that stops
	last                        time.Time
	gap                         time.Duration // longest time in which nothing arrived anywhere
	first                       []string      // of what was unexpected
}

func (t *tally) String() string {
	return fmt.Sprintf("accepted %d, delivered %d, lost %d, duplicated %d, connections refused %d, requests without an answer %d, told to come back %d, longest gap %v",
		t.accepted, t.delivered, t.lost, t.duplicated, t.refused, t.broken, t.told, t.gap.Round(10*time.Millisecond))
}

func (t *tally) add(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
}

func (t *tally) arrived() {
	now := time.Now()
	if !t.last.IsZero() {
		t.gap = max(t.gap, now.Sub(t.last))
	}
	t.last = now
}

// failed counts an answer that is none of those that the peer hoped for, and
// waits as long as it asks for.
func (t *tally) failed(ctx context.Context, answer *http.Response, err error) {
	if ctx.Err() != nil {
		return
	}
	wait := pause
	t.add(func() {
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			t.refused++
		case err != nil:
			t.broken++
		case answer.Header.Get("Retry-After") != "" && (answer.StatusCode == 204 || answer.StatusCode == 503):
			t.told++
			seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After")) // the server's own: nonsense is no wait
			wait = time.Duration(seconds) * time.Second
		default:
			t.unexpected++
			t.first = append(t.first, answer.Status)[:min(len(t.first)+1, 5)]
		}
	})
	sleep(ctx, wait)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// peer is one client with connections and an address of its own.
type peer struct {
	server, name string
	http         *http.Client
	*tally
}

// newPeer speaks HTTP/2, HTTP/1.1, or HTTP/1.1 with a connection for each
// request, from the loopback address of number i.
func newPeer(server, name string, i int, t *tally) *peer {
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1+byte(i>>16), byte(i>>8), byte(1+i%250))}}
	return &peer{server, name, &http.Client{Timeout: requestLimit, Transport: &http.Transport{
		DialContext:       from.DialContext,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // one that the server made itself
		ForceAttemptHTTP2: i%2 == 0,
		DisableKeepAlives: i%4 == 1,
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

// pair is a sender, its receiver, and the numbers that passed between them.
type pair struct {
	sender, receiver *peer
	mu               sync.Mutex
	accepted, seen   map[string]int
	sent             bool // the sender is done
}

func newPair(server, name string, i int, t *tally) *pair {
	return &pair{
		sender: newPeer(server, name+"-sender", i, t), receiver: newPeer(server, name+"-receiver", i, t),
		accepted: map[string]int{}, seen: map[string]int{},
	}
}

// send sends numbers until ctx ends, each until it is accepted.
func (p *pair) send(ctx context.Context) {
	query := url.Values{"to": {p.receiver.name}, "wait": {"5"}}
	for n := 0; ctx.Err() == nil; n++ {
		text := strconv.Itoa(n)
		for ctx.Err() == nil {
			// Not ctx: whoever hangs up does not know whether it was accepted.
			answer, _, err := p.sender.ask(context.Background(), "POST", query, text)
			if err == nil && answer.StatusCode == http.StatusOK {
				p.note(p.accepted, text)
				p.sender.add(func() { p.sender.accepted++ })
				break
			}
			p.sender.failed(ctx, answer, err)
		}
		sleep(ctx, pace)
	}
}

func (p *pair) note(in map[string]int, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in[text]++
}

// receive acknowledges what comes until ctx ends, or all that was accepted has come.
func (p *pair) receive(ctx context.Context) {
	after := ""
	for ctx.Err() == nil && !p.done() {
		answer, text, err := p.receiver.ask(ctx, "GET", url.Values{"after": {after}, "wait": {"2"}}, "")
		switch {
		case err == nil && answer.StatusCode == http.StatusOK:
			after = answer.Header.Get("X-Message-Id")
			p.note(p.seen, text)
			p.receiver.add(p.receiver.arrived)
		case err == nil && answer.StatusCode == http.StatusNoContent && answer.Header.Get("Retry-After") == "":
		default:
			p.receiver.failed(ctx, answer, err)
		}
	}
}

func (p *pair) done() bool {
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

// forget demands no more of what was accepted until now: the server has crashed.
func (p *pair) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.accepted)
}

// run sends until ctx ends, then gives what is on its way time to arrive, and counts.
func (p *pair) run(ctx context.Context) {
	arrivals, end := context.WithCancel(context.Background())
	defer end()
	received := make(chan struct{})
	go func() { defer close(received); p.receive(arrivals) }()
	p.send(ctx)
	p.mu.Lock()
	p.sent = true
	p.mu.Unlock()
	defer time.AfterFunc(10*time.Second, end).Stop()
	<-received
	p.count()
	for _, peer := range []*peer{p.sender, p.receiver} {
		peer.http.CloseIdleConnections()
	}
}

func (p *pair) count() {
	p.sender.add(func() {
		for text := range p.accepted {
			if p.seen[text] == 0 {
				p.sender.lost++
			}
		}
		for _, times := range p.seen {
			p.sender.delivered++
			p.sender.duplicated += times - 1
		}
	})
}
