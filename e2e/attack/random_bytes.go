package attack

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// randomBytes sends random bytes, some of them after the first bytes of a known protocol.
func randomBytes(ctx context.Context, s *scenario) {
	const conns = 600
	prefixes := []string{
		"", "\x16\x03\x01", "\x16\x03\x03\x40\x00\x01", "GET ", "POST /inbox HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PROXY TCP4 ", "\x00",
	}
	random := rand.New(rand.NewPCG(1, 2))
	var payloads [conns][]byte
	for i := range payloads {
		payloads[i] = []byte(prefixes[i%len(prefixes)])
		for range random.IntN(4000) {
			payloads[i] = append(payloads[i], byte(random.UintN(256)))
		}
	}
	var closed atomic.Int64
	parallel(conns, 150, func(i int) {
		c, err := s.dialTCP(ctx, attackerAddr(i/10))
		if err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		defer c.Close()
		c.SetWriteDeadline(time.Now().Add(time.Second))
		c.Write(payloads[i]) // fails if the server closes first
		if closedWithin(c, 15*time.Second) {
			closed.Add(1)
		} else {
			s.fail("after %.20q…: got an open connection, want it closed", payloads[i])
		}
	})
	s.addFigure("%d of %d connections closed by the server", closed.Load(), conns)
}
