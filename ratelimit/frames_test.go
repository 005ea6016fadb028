package ratelimit

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// scriptedConn is a connection that brings what it was given, some bytes at a time.
type scriptedConn struct {
	net.Conn // nil: what is not overridden is not called
	from     string
	in       *bytes.Reader
	chunk    int
}

func (s *scriptedConn) Read(p []byte) (int, error)  { return s.in.Read(p[:min(len(p), s.chunk)]) }
func (s *scriptedConn) Write(p []byte) (int, error) { return len(p), nil }
func (s *scriptedConn) Close() error                { return nil }
func (s *scriptedConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr(s.from), 1234))
}

func newFrameLimiter(perSecond float64, burst int) *FrameLimiter {
	return &FrameLimiter{
		Limiter:  NewLimiter(Budget{PerSecond: perSecond, Burst: burst}, 0),
		ClientIP: &ClientIP{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}},
	}
}

// recordConn puts a connection that brings these bytes under a counter of records.
func (f *FrameLimiter) recordConn(from string, stream []byte) net.Conn {
	return &throttledConn{
		Conn:    &scriptedConn{from: from, in: bytes.NewReader(stream), chunk: 100},
		limiter: f, units: splitter{headerBytes: recordHeaderBytes, measure: measureRecord},
	}
}

// TestFrameLimiterThrottlesFlood: a connection reads as fast as the bucket fills, others
// as fast as they like.
func TestFrameLimiterThrottlesFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFrameLimiter(100, 200)
		flood := repeat(1200, record(18))
		for _, row := range []struct {
			who, from   string
			stream      []byte
			least, most time.Duration
		}{
			{"a flooder", "192.0.2.1", flood, 9 * time.Second, 10 * time.Second},
			{"another who asks", "192.0.2.2", repeat(1200, record(400)), 0, 0},
			{"the flooder who asks", "192.0.2.1", repeat(1200, record(400)), 0, 0},
			{"a trusted proxy", "127.0.0.9", flood, 0, 0},
		} {
			began := time.Now()
			n, err := io.Copy(io.Discard, p.recordConn(row.from, row.stream))
			took := time.Since(began)
			if err != nil || n != int64(len(row.stream)) || took < row.least || took > row.most {
				t.Errorf("%s: got %d bytes of %d in %v and %v, want %v to %v", row.who, n, len(row.stream), took, err, row.least, row.most)
			}
		}
		if p.Throttled() == 0 || p.Dropped() != 0 {
			t.Errorf("got %d slowed and %d ended, want some and none", p.Throttled(), p.Dropped())
		}
	})
}

// TestFrameLimiterDropsFloodOfManyConnections: who owes more than a pause is worth is
// left, and owes no more by it.
func TestFrameLimiterDropsFloodOfManyConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFrameLimiter(100, 200)
		errs := make(chan error)
		for range 100 {
			go func() {
				_, err := io.Copy(io.Discard, p.recordConn("192.0.2.1", repeat(600, record(18))))
				errs <- err
			}()
		}
		dropped := 0
		for range 100 {
			if err := <-errs; errors.Is(err, errTooManyFrames) {
				dropped++
			}
		}
		if dropped < 90 || p.Dropped() != int64(dropped) {
			t.Errorf("got %d of 100 ended and %d counted, want most", dropped, p.Dropped())
		}
		if wait := p.Limiter.chargeN(addr("192.0.2.1"), 1, maxPause, time.Now()); wait > maxPause+time.Second {
			t.Errorf("the address has to wait %v, want about %v", wait, maxPause)
		}
	})
}

func TestFrameLimiterDryRunAndOff(t *testing.T) {
	for _, row := range []struct {
		name   string
		pieces *FrameLimiter
		slowed bool
	}{{"dry run", newFrameLimiter(1, 1), true}, {"off", newFrameLimiter(0, 10), false}} {
		row.pieces.DryRun = row.name == "dry run"
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			_, err := io.Copy(io.Discard, row.pieces.recordConn("192.0.2.1", repeat(500, record(18))))
			if err != nil || time.Since(began) > 0 || row.pieces.Throttled() > 0 != row.slowed {
				t.Errorf("%s: got %v after %v, %d counted", row.name, err, time.Since(began), row.pieces.Throttled())
			}
		})
	}
}

// TestFramesAreFreeInProportionToWrites: frames are free in proportion to what the
// server writes.
func TestFramesAreFreeInProportionToWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFrameLimiter(1, 20)
		c := p.recordConn("192.0.2.1", repeat(1000, record(18)))
		if _, err := c.Write(make([]byte, 500*bytesPerFreeFrame)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, c, int64(500*len(record(18)))); err != nil || p.Throttled() > 0 {
			t.Errorf("got %v and %d pauses, want none", err, p.Throttled())
		}
		if _, err := io.Copy(io.Discard, c); !errors.Is(err, errTooManyFrames) {
			t.Errorf("got %v for as many again, want them to cost", err)
		}
	})
}

// TestManyUnitsAreReadInSmallParts, so that nobody owes seconds for one read.
func TestManyUnitsAreReadInSmallParts(t *testing.T) {
	for _, row := range []struct {
		name   string
		stream []byte
		most   int
	}{
		{"small records", repeat(5000, record(18)), smallReadBytes},
		{"requests", repeat(500, record(400)), 16 << 10},
	} {
		c := newFrameLimiter(1e6, 1e6).recordConn("192.0.2.1", row.stream).(*throttledConn)
		c.Conn.(*scriptedConn).chunk = 1 << 20
		p := make([]byte, 16<<10)
		c.Read(p)
		if n, err := c.Read(p); n != row.most || err != nil {
			t.Errorf("%s: got %d bytes at once after the first and %v, want %d", row.name, n, err, row.most)
		}
	}
}

func TestCloseWakesThrottledReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFrameLimiter(10, 20).recordConn("192.0.2.1", repeat(36, record(18)))
		began := time.Now()
		time.AfterFunc(time.Millisecond, func() { c.Close() })
		io.Copy(io.Discard, c)
		if took := time.Since(began); took != time.Millisecond {
			t.Errorf("it read for %v, want it woken by Close", took)
		}
		began = time.Now()
		c.(*throttledConn).pause(time.Hour)
		if took := time.Since(began); took != 0 {
			t.Errorf("closed, it still waits for %v", took)
		}
	})
}

// TestFrameConnHasConnectionState: HTTP/2 refuses a connection whose TLS it cannot see.
func TestFrameConnHasConnectionState(t *testing.T) {
	c := newFrameLimiter(1, 1).FrameConn(tls.Server(&scriptedConn{from: "192.0.2.1", in: bytes.NewReader(nil), chunk: 1}, &tls.Config{}))
	if _, ok := c.(interface{ ConnectionState() tls.ConnectionState }); !ok {
		t.Error("it has no ConnectionState")
	}
}
