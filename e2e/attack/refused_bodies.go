package attack

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"time"
)

// refusedBodies announces bodies that the server refuses. Some connections then send as much
// as they can, so that the server drops it, and the others send nothing.
func refusedBodies(ctx context.Context, s *scenario) {
	const conns, senders, addrs = 320, 64, 40
	const most = senders * (16 + 8) << 20 // what the server drops, and what the kernel buffers
	request := requestHead("POST", "/inbox?to=good", "big") + "Content-Length: 1099511627776\r\n\r\n"
	piece := strings.Repeat("x", 64<<10)
	began, before := time.Now(), s.cpu()
	var sent, ended, answered atomic.Int64
	parallel(conns, conns, func(i int) {
		c, err := s.dial(ctx, attackerAddr(i%addrs), "http/1.1")
		if err != nil {
			return
		}
		defer c.Close()
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			h := newHTTP1Conn(c)
			if status, _, err := h.readResponse(); err == nil && status == 413 {
				answered.Add(1)
			}
			io.Copy(io.Discard, h.reader)
		}()
		_, err = io.WriteString(c, request)
		for err == nil && i < senders {
			var n int
			n, err = io.WriteString(c, piece)
			sent.Add(int64(n))
		}
		select {
		case <-closed:
			ended.Add(1)
		case <-time.After(30 * time.Second):
		}
	})
	s.addFigure("%d of %d refused, %d ended after %.1f s, %d MiB dropped, %d ms of CPU",
		answered.Load(), conns, ended.Load(), time.Since(began).Seconds(), sent.Load()>>20, (s.cpu() - before).Milliseconds())
	if got := answered.Load(); got != conns {
		s.fail("%d connections got 413, want all %d", got, conns)
	}
	if got := ended.Load(); got != conns {
		s.fail("%d connections are still open, want none", conns-got)
	}
	if got := sent.Load(); got > most {
		s.fail("%d MiB of refused bodies were sent, want at most %d", got>>20, most>>20)
	}
}
