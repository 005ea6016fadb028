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
	hellosAtOnce = 64
	// wake is for how long such hellos keep a core busy, and some to spare.
	wake = 70 * time.Millisecond
)

// recordedHellos sends the same hello on many connections of one address at
// once, which costs a stranger nothing and the server a handshake each. Unlike
// handshakes made here, they all come at the same time.
func recordedHellos(rounds int) func(context.Context, *scene) {
	return func(ctx context.Context, s *scene) {
		hello := recordHello()
		goods, leave := s.crowdOfGood(ctx, others)
		defer leave()
		var quiet, loud []time.Duration
		for i := range rounds {
			conns := s.ready(ctx, stranger(i), hellosAtOnce)
			quiet = append(quiet, during(ctx, goods, func() { pause(ctx, wake) })...)
			loud = append(loud, during(ctx, goods, func() {
				for _, c := range conns {
					c.Write(hello)
				}
				pause(ctx, wake)
			})...)
			for _, c := range conns {
				c.Close()
			}
		}
		s.note("others' p50 / p99: quiet %s / %s, after %d hellos at once %s / %s", milliseconds(percentile(quiet, 0.5)), milliseconds(percentile(quiet, 0.99)),
			hellosAtOnce, milliseconds(percentile(loud, 0.5)), milliseconds(percentile(loud, 0.99)))
		// The middle, for in these short moments the p99 is that of whatever else the
		// machine does. Without turns it is three to five times the quiet one; that
		// handshakes take turns is asserted where time does not count, in ratelimit.
		before, after := percentile(quiet, 0.5), percentile(loud, 0.5)
		if after > before*mostSlower+10*time.Millisecond {
			s.fail("others' p50 is %v after hellos, %v without", after, before)
		}
	}
}

// ready opens n connections from an address.
func (s *scene) ready(ctx context.Context, from string, n int) (conns []net.Conn) {
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

// recordHello returns the first bytes of a handshake.
func recordHello() []byte {
	r := new(recorder)
	tls.Client(r, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}).Handshake()
	return r.Bytes()
}

// recorder is a connection that breaks once something was written.
type recorder struct {
	net.Conn
	bytes.Buffer
}

func (r *recorder) Read([]byte) (int, error)    { return 0, io.EOF }
func (r *recorder) Write(p []byte) (int, error) { return r.Buffer.Write(p) }
func (r *recorder) Close() error                { return nil }
