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

	"inbox/e2e"
)

// fillQuota claims names from the n-th attacker address and queues messages of 1 MiB for
// them until the server refuses one. It returns the number of accepted bytes, and the last
// status.
func (s *scenario) fillQuota(ctx context.Context, n int) (accepted int64, last int) {
	body := make([]byte, 1<<20)
	for name := range 60 {
		to := s.peer(fmt.Sprint("exhaust-", n, "-", name), attackerAddr(n))
		if err := wantStatus(ctx, to, "GET", "?wait=0", http.StatusNoContent); err != nil {
			s.fail("address %d: %v", n, err)
			return accepted, 0
		}
		for range 8 {
			got, err := requestStatus(ctx, to, "POST", "?to="+to.Name, bytes.NewReader(body))
			if err != nil || got != http.StatusOK {
				to.HTTP.CloseIdleConnections()
				return accepted + s.fillRemainder(ctx, n), got
			}
			accepted += int64(len(body))
		}
		to.HTTP.CloseIdleConnections()
	}
	return accepted, http.StatusOK
}

// fillRemainder fills the rest of the quota with smaller messages.
func (s *scenario) fillRemainder(ctx context.Context, n int) (accepted int64) {
	to := s.peer(fmt.Sprint("exhaust-", n, "-0"), attackerAddr(n))
	defer to.HTTP.CloseIdleConnections()
	for size := 512 << 10; size >= 8<<10; size /= 2 {
		if got, _ := requestStatus(ctx, to, "POST", "?to="+to.Name, bytes.NewReader(make([]byte, size))); got == http.StatusOK {
			accepted += int64(size)
		}
	}
	return accepted
}

// exhaustOneAddr fills the quota of one address. A new client must still have room.
func exhaustOneAddr(ctx context.Context, s *scenario) {
	accepted, last := s.fillQuota(ctx, 0)
	s.addFigure("%d MiB accepted, then %d", accepted>>20, last)
	if accepted > 32<<20 {
		s.fail("got %d MiB queued by one address, want at most 32", accepted>>20)
	}
	s.checkNewClient(ctx, 1<<20)
	names := s.claimAll(ctx, attackerAddr(1), 1500)
	s.addFigure("%d of 1500 names claimed", names)
}

// exhaustManyAddrs fills the quotas of a hundred addresses. A new client must still have
// room for sizeBytes.
func exhaustManyAddrs(sizeBytes int) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		var accepted atomic.Int64
		parallel(100, 8, func(i int) {
			n, _ := s.fillQuota(ctx, i)
			accepted.Add(n)
		})
		s.addFigure("%d MiB accepted", accepted.Load()>>20)
		s.checkNewClient(ctx, sizeBytes)
		if err := s.call(ctx); err != nil {
			s.fail("with full quotas: %v", err)
		}
	}
}

// checkNewClient checks that a new client can receive a message of size bytes, overhead
// included.
func (s *scenario) checkNewClient(ctx context.Context, size int) {
	to, from := s.peer("new", clientAddr), s.peer("sender", "127.200.1.2")
	defer to.HTTP.CloseIdleConnections()
	defer from.HTTP.CloseIdleConnections()
	if err := wantStatus(ctx, to, "GET", "?wait=0", http.StatusNoContent); err != nil {
		s.fail("new client: %v", err)
		return
	}
	err := from.Send(ctx, to.Name, "text/plain", bytes.Repeat([]byte("x"), size-2<<10), 0)
	if err != nil {
		s.fail("queue %d KiB for a new client: %v", size>>10, err)
		return
	}
	m, err := to.Receive(ctx)
	if err != nil || len(m.Body) != size-2<<10 {
		s.fail("new client: got %d bytes, want %d: %v", len(m.Body), size-2<<10, err)
		return
	}
	s.addFigure("%d KiB queued for a new client", size>>10)
}

// claimAll claims n names, or fewer if the server refuses one, and returns their number.
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

// ipv4Clients and clientsOfSevenNetworks return the address of the n-th attacker: an IPv4
// address, or one in a /64 of its own in one of seven /48.
func ipv4Clients(n int) string            { return fmt.Sprintf("198.18.%d.%d", n/250, 1+n%250) }
func clientsOfSevenNetworks(n int) string { return fmt.Sprintf("2001:db8:%x:%x::1", n%7, n/7) }

// exhaustNames claims names from many addresses until the server refuses them. New clients
// must still be able to claim one each. The call that follows each attack begins before the
// names expire.
func exhaustNames(addrs int, addr func(n int) string) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		proxy := s.http("127.0.0.1")
		defer proxy.CloseIdleConnections()
		var claimed, refused atomic.Int64
		parallel(addrs, 8, func(n int) {
			for i := range 100 {
				c := &e2e.Client{Server: s.url(), Name: fmt.Sprint("hoard-", n, "-", i), Password: "x", HTTP: proxy}
				got, err := requestStatus(ctx, c, "GET", "?wait=0", nil, "X-Forwarded-For", addr(n))
				switch {
				case err != nil:
					s.fail("address %d: %v", n, err)
					return
				case got == http.StatusTooManyRequests:
					refused.Add(1)
					return
				case got != http.StatusNoContent:
					s.fail("address %d, name %d: got %d, want 204 or 429", n, i, got)
					return
				}
				claimed.Add(1)
			}
		})
		s.addFigure("%d addresses claimed %d of 4000 names, %d refused", addrs, claimed.Load(), refused.Load())
		s.checkNewClient(ctx, 64<<10)
	}
}

// halfBodies sends all bytes of a large message but the last, on each of many connections.
// Such a message is not queued yet, so only the in-flight body budget bounds it.
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
	s.addFigure("%d bodies of 1 MiB less one byte on %d connections, %d refused while sending", sent.Load(), conns, refused.Load())
}

// manyFields sends headers with as many fields as possible, because each field uses more
// memory than its bytes. Half of the headers are complete and become waiting polls, the others
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
	s.addFigure("%d headers of %d fields in 19 KiB, half of them incomplete; %d answered at once",
		sent.Load(), strings.Count(fields, "\n"), answered.Load())
}

// manyPolls opens as many polls as possible, over HTTP/2, where the number of connections
// does not bound them.
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
	s.addFigure("%d addresses, %d polls: %d waiting, %d answered, %d reset",
		addrs, requested, requested-responses-resets, responses, resets)
	if waiting := requested - responses - resets; waiting > addrs*256 {
		s.fail("got %d waiting polls, want at most 256 of each address", waiting)
	}
}
