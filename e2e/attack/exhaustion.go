package attack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// fillQuota lets one address queue messages of 1 MiB for names that it claims, until
// it is refused, and returns how many bytes were taken.
func (s *scenario) fillQuota(ctx context.Context, n int) (taken int64, last int) {
	body := make([]byte, 1<<20)
	for name := range 60 {
		to := s.peer(fmt.Sprint("hoard-", n, "-", name), attackerAddr(n))
		if err := wantStatus(ctx, to, "GET", "?wait=0", http.StatusNoContent); err != nil {
			s.fail("hoarder %d: %v", n, err)
			return taken, 0
		}
		for range 8 {
			got, err := requestStatus(ctx, to, "POST", "?to="+to.Name, bytes.NewReader(body))
			if err != nil || got != http.StatusOK {
				to.HTTP.CloseIdleConnections()
				return taken + s.fillRemainder(ctx, n), got
			}
			taken += int64(len(body))
		}
		to.HTTP.CloseIdleConnections()
	}
	return taken, http.StatusOK
}

// fillRemainder adds what a hoarder still gets in smaller pieces.
func (s *scenario) fillRemainder(ctx context.Context, n int) (taken int64) {
	to := s.peer(fmt.Sprint("hoard-", n, "-0"), attackerAddr(n))
	defer to.HTTP.CloseIdleConnections()
	for size := 512 << 10; size >= 8<<10; size /= 2 {
		if got, _ := requestStatus(ctx, to, "POST", "?to="+to.Name, bytes.NewReader(make([]byte, size))); got == http.StatusOK {
			taken += int64(size)
		}
	}
	return taken
}

// exhaustOneAddr fills what one address may fill.
func exhaustOneAddr(ctx context.Context, s *scenario) {
	taken, last := s.fillQuota(ctx, 0)
	s.addFigure("%d MiB taken, then %d", taken>>20, last)
	if taken > 32<<20 {
		s.fail("one address queued %d MiB, want at most 32", taken>>20)
	}
	s.checkNewClient(ctx, 1<<20)
	names := s.claimAll(ctx, attackerAddr(1), 1500)
	s.addFigure("%d of 1500 names claimed at once", names)
}

// exhaustManyAddrs does it from a hundred addresses; a newcomer must still have
// room for so many bytes.
func exhaustManyAddrs(sizeBytes int) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		var taken atomic.Int64
		parallel(100, 8, func(i int) {
			n, _ := s.fillQuota(ctx, i)
			taken.Add(n)
		})
		s.addFigure("%d MiB taken", taken.Load()>>20)
		s.checkNewClient(ctx, sizeBytes)
		if err := s.call(ctx); err != nil {
			s.fail("among hoarders: %v", err)
		}
	}
}

// checkNewClient queues a message of that size and has it read.
func (s *scenario) checkNewClient(ctx context.Context, size int) {
	to, from := s.peer("newcomer", clientAddr), s.peer("friend", "127.200.1.2")
	defer to.HTTP.CloseIdleConnections()
	defer from.HTTP.CloseIdleConnections()
	if err := wantStatus(ctx, to, "GET", "?wait=0", http.StatusNoContent); err != nil {
		s.fail("a newcomer: %v", err)
		return
	}
	err := from.Send(ctx, to.Name, "text/plain", bytes.Repeat([]byte("x"), size-2<<10), 0)
	if err != nil {
		s.fail("a newcomer cannot queue %d KiB: %v", size>>10, err)
		return
	}
	m, err := to.Receive(ctx)
	if err != nil || len(m.Body) != size-2<<10 {
		s.fail("a newcomer got %d bytes of %d: %v", len(m.Body), size, err)
		return
	}
	s.addFigure("a newcomer queued %d KiB", size>>10)
}

// claimAll claims names until it is refused.
func (s *scenario) claimAll(ctx context.Context, from string, n int) (claimed int) {
	client := s.http(from)
	defer client.CloseIdleConnections()
	for i := range n {
		c := s.peer(fmt.Sprint("name", i), from)
		c.HTTP = client
		got, err := requestStatus(ctx, c, "GET", "?wait=0", nil)
		if err != nil || got != http.StatusNoContent {
			return i
		}
	}
	return n
}

// halfBodies sends nearly all of a large message on each of many connections,
// and waits: it is not queued yet, and counted nowhere else.
func halfBodies(ctx context.Context, s *scenario) {
	const conns = 800
	part := strings.Repeat("x", 1<<20-1)
	var sent, refused atomic.Int64
	parallel(conns, 16, func(i int) {
		c, err := s.dial(ctx, attackerAddr(i/50), "http/1.1")
		if err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		name := fmt.Sprint("half", i)
		c.SetDeadline(time.Now().Add(20 * time.Second))
		l := newHTTP1Conn(c)
		if _, _, err := l.roundTrip(requestHead("GET", "/inbox?wait=0", name) + "\r\n"); err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		_, err = io.WriteString(c, requestHead("POST", "/inbox?to="+name, name)+"Content-Length: 1048576\r\n\r\n"+part)
		if err != nil {
			refused.Add(1)
			return
		}
		sent.Add(1)
	})
	sleep(ctx, time.Second)
	s.addFigure("%d bodies of 1 MiB but a byte on %d connections, %d refused while sending", sent.Load(), conns, refused.Load())
}

// manyFields sends headers with as many fields as fit, each of which costs the
// server more than its bytes: complete ones, to be held as polls, and others that
// stop before the end.
func manyFields(ctx context.Context, s *scenario) {
	const conns = 2000
	var text strings.Builder
	for i := 0; text.Len() < 19<<10; i++ {
		fmt.Fprintf(&text, "%x:\r\n", i)
	}
	fields := text.String()
	var sent, answered atomic.Int64
	parallel(conns, 16, func(i int) {
		c, err := s.dial(ctx, attackerAddr(i/60), "http/1.1")
		if err == nil {
			_, err = io.WriteString(c, requestHead("GET", "/inbox", fmt.Sprint("fields", i))+fields+strings.Repeat("\r\n", i%2))
		}
		if err != nil {
			return
		}
		sent.Add(1)
		go func() {
			if status, _, _ := newHTTP1Conn(c).readResponse(); status > 0 {
				answered.Add(1)
			}
		}()
	})
	sleep(ctx, 2*time.Second)
	s.addFigure("%d headers of %d fields in 19 KiB, half of them not complete; %d answered at once", sent.Load(), strings.Count(fields, "\n"), answered.Load())
}

// manyPolls holds as many polls as it is let, over HTTP/2, where connections do
// not bound them.
func manyPolls(ctx context.Context, s *scenario) {
	const addrs, conns, polls = 20, 5, 60
	var h2conns [addrs * conns]*http2Conn
	parallel(len(h2conns), 16, func(i int) {
		f, err := s.dialHTTP2(ctx, attackerAddr(i/conns))
		if err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		h2conns[i] = f
		go f.readFrames()
		for k := range polls {
			if _, err := f.openStream("GET", "/inbox", fmt.Sprint("poll", i, "-", k), true); err != nil {
				return
			}
		}
	})
	sleep(ctx, 3*time.Second)
	responses, resets := closeAll(h2conns[:])
	requested := int64(len(h2conns) * polls)
	s.addFigure("%d addresses ask %d times: %d held, %d answered, %d reset", addrs, requested, requested-responses-resets, responses, resets)
	if held := requested - responses - resets; held > addrs*256 {
		s.fail("%d polls are held, want at most 256 of each address", held)
	}
}
