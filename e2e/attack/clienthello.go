package attack

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"time"
)

const (
	concurrentHellos = 64
	// burstDuration is longer than the time for which these handshakes occupy a core.
	burstDuration = 70 * time.Millisecond
)

// replayedHellos sends the same ClientHello on many connections of one address at once. This
// costs the attacker nothing, and the server one handshake each. Unlike handshakes that
// this machine computes, all of them arrive at the same time.
func replayedHellos(rounds int) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		hello := captureClientHello()
		probes := s.newProbes(flooder{}, probeCount)
		defer s.runProbes(ctx, probes)()
		var baseline, underFlood []time.Duration
		for i := range rounds {
			conns := s.openConns(ctx, attackerAddr(i), concurrentHellos)
			baseline = append(baseline, latenciesDuring(ctx, probes, func() { sleep(ctx, burstDuration) })...)
			underFlood = append(underFlood, latenciesDuring(ctx, probes, func() {
				for _, c := range conns {
					c.Write(hello)
				}
				sleep(ctx, burstDuration)
			})...)
			for _, c := range conns {
				c.Close()
			}
		}
		s.addFigure("good clients' p50 / p99: quiet %s / %s, after %d hellos at once %s / %s",
			milliseconds(percentile(baseline, 0.5)), milliseconds(percentile(baseline, 0.99)),
			concurrentHellos, milliseconds(percentile(underFlood, 0.5)), milliseconds(percentile(underFlood, 0.99)))
		// The median, because the p99 of such short phases depends on other load of the
		// machine. Without handshake slots the median is three to five times the quiet
		// one. Tests of package ratelimit check the slots without measuring time.
		before, after := percentile(baseline, 0.5), percentile(underFlood, 0.5)
		if after > before*maxSlowdown+10*time.Millisecond {
			s.fail("got p50 of good clients %v after the hellos, want at most %v", after, before*maxSlowdown+10*time.Millisecond)
		}
	}
}

// openConns opens n connections from a source address.
func (s *scenario) openConns(ctx context.Context, from string, n int) (conns []net.Conn) {
	for range n {
		c, err := s.dialTCP(ctx, from)
		if err != nil {
			s.fail("connect from %s: %v", from, err)
			continue
		}
		conns = append(conns, c)
	}
	return conns
}

// captureClientHello returns a ClientHello.
func captureClientHello() []byte {
	r := new(captureConn)
	tls.Client(r, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}).Handshake()
	return r.Bytes()
}

// captureConn keeps what is written, and fails at the first read.
type captureConn struct {
	net.Conn
	bytes.Buffer
}

func (r *captureConn) Read([]byte) (int, error)    { return 0, io.EOF }
func (r *captureConn) Write(p []byte) (int, error) { return r.Buffer.Write(p) }
func (r *captureConn) Close() error                { return nil }
