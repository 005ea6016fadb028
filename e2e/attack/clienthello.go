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
	// burstDuration is for how long such hellos keep a core busy, and some to spare.
	burstDuration = 70 * time.Millisecond
)

// replayedHellos sends the same hello on many connections of one address at
// once, which costs a stranger nothing and the server a handshake each. Unlike
// handshakes made here, they all come at the same time.
func replayedHellos(rounds int) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		hello := captureClientHello()
		probes, stopProbes := s.startProbes(ctx, probeCount)
		defer stopProbes()
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
		s.addFigure("others' p50 / p99: quiet %s / %s, after %d hellos at once %s / %s", milliseconds(percentile(baseline, 0.5)), milliseconds(percentile(baseline, 0.99)),
			concurrentHellos, milliseconds(percentile(underFlood, 0.5)), milliseconds(percentile(underFlood, 0.99)))
		// The middle, for in these short moments the p99 is that of whatever else the
		// machine does. Without turns it is three to five times the quiet one; that
		// handshakes take turns is asserted where time does not count, in ratelimit.
		before, after := percentile(baseline, 0.5), percentile(underFlood, 0.5)
		if after > before*maxSlowdown+10*time.Millisecond {
			s.fail("others' p50 is %v after hellos, %v without", after, before)
		}
	}
}

// openConns opens n connections from an address.
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

// captureClientHello returns the first bytes of a handshake.
func captureClientHello() []byte {
	r := new(captureConn)
	tls.Client(r, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}).Handshake()
	return r.Bytes()
}

// captureConn is a connection that breaks once something was written.
type captureConn struct {
	net.Conn
	bytes.Buffer
}

func (r *captureConn) Read([]byte) (int, error)    { return 0, io.EOF }
func (r *captureConn) Write(p []byte) (int, error) { return r.Buffer.Write(p) }
func (r *captureConn) Close() error                { return nil }
