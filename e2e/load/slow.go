package main

import (
	"fmt"
	"io"
	"time"
)

// slowAfter is the latency above which messages are reported: a server with free processors delivers
// in milliseconds.
const slowAfter = time.Second

// slowMessage is when a message was sent and received, since the start of the tool.
type slowMessage struct{ sent, received time.Duration }

// received notes a message of a peer.
func (p *peer) received(sent, at time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latencies = append(p.latencies, at-sent)
	if at-sent > slowAfter {
		p.slow = append(p.slow, slowMessage{sent, at})
	}
}

// slowMessages tell what has delayed messages. A few peers hint at wake-ups that a connection has
// lost, a few addresses at their request rate, and many peers that all receive at one moment at a
// process that did not run.
type slowMessages struct {
	messages, peers int
	addresses       map[string]bool
	first, last     slowMessage // the earliest and the latest of each time
}

// add adds those of a peer.
func (s *slowMessages) add(p *peer) {
	if len(p.slow) == 0 {
		return
	}
	if s.messages == 0 {
		s.first, s.last, s.addresses = p.slow[0], p.slow[0], map[string]bool{}
	}
	s.peers++
	s.messages += len(p.slow)
	s.addresses[p.source.String()] = true
	for _, m := range p.slow {
		s.first = slowMessage{min(s.first.sent, m.sent), min(s.first.received, m.received)}
		s.last = slowMessage{max(s.last.sent, m.sent), max(s.last.received, m.received)}
	}
}

// print reports them, if there are any.
func (s *slowMessages) print(w io.Writer, total int) {
	if s.messages == 0 {
		return
	}
	seconds := func(from, to time.Duration) string {
		return fmt.Sprintf("%.1f to %.1f s", from.Seconds(), to.Seconds())
	}
	fmt.Fprintf(w, "%d of %d messages took over %v: to %d peers of %d addresses, sent at %s, received at %s\n",
		s.messages, total, slowAfter, s.peers, len(s.addresses), seconds(s.first.sent, s.last.sent), seconds(s.first.received, s.last.received))
}
