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

	"inbox/internal/netconn"
	"inbox/internal/splitter"
)

// scriptedConn is a connection that delivers its input in chunks.
type scriptedConn struct {
	net.Conn // nil: other methods are not called
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

// recordConn returns a connection that delivers the stream, charged for records.
func (f *FrameLimiter) recordConn(from string, stream []byte) net.Conn {
	return &throttledConn{
		Conn:    &scriptedConn{from: from, in: bytes.NewReader(stream), chunk: 100},
		limiter: f, units: splitter.Splitter{HeaderBytes: recordHeaderBytes, Measure: measureRecord},
	}
}

// A flooding connection is read as fast as the bucket refills, others without delay.
func TestFrameLimiterThrottlesFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFrameLimiter(100, 200)
		flood := repeat(1200, record(18))
		for _, row := range []struct {
			name, from  string
			stream      []byte
			least, most time.Duration
		}{
			{"a flood", "192.0.2.1", flood, 9 * time.Second, 10 * time.Second},
			{"requests from another address", "192.0.2.2", repeat(1200, record(400)), 0, 0},
			{"requests from the flooding address", "192.0.2.1", repeat(1200, record(400)), 0, 0},
			{"a trusted proxy", "127.0.0.9", flood, 0, 0},
		} {
			began := time.Now()
			n, err := io.Copy(io.Discard, p.recordConn(row.from, row.stream))
			took := time.Since(began)
			if err != nil || n != int64(len(row.stream)) || took < row.least || took > row.most {
				t.Errorf("%s: got %d bytes of %d in %v and %v, want %v to %v", row.name, n, len(row.stream), took, err, row.least, row.most)
			}
		}
		if p.Throttled() == 0 || p.Dropped() != 0 {
			t.Errorf("got %d throttled and %d dropped, want some and none", p.Throttled(), p.Dropped())
		}
	})
}

// The small records of a relayed stream count for a sixteenth.
func TestFrameLimiterDiscountsRelayedRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFrameLimiter(100, 200)
		stream := repeat(16*1200, record(18))
		c := p.recordConn("192.0.2.1", stream)
		netconn.Hijacked(&headerConn{Conn: c})
		began := time.Now()
		n, err := io.Copy(io.Discard, c)
		if took := time.Since(began); err != nil || n != int64(len(stream)) || took < 9*time.Second || took > 10*time.Second {
			t.Errorf("got %d bytes of %d in %v and %v, want 9 to 10 seconds", n, len(stream), took, err)
		}
	})
}

// Connections of an address that owes more than the longest pause are dropped, and its
// debt does not grow further.
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
			t.Errorf("got %d of 100 dropped and %d counted, want most", dropped, p.Dropped())
		}
		if wait := p.Limiter.ChargeN(addr("192.0.2.1"), 1, maxPause, time.Now()); wait > maxPause+time.Second {
			t.Errorf("the address must wait %v, want about %v", wait, maxPause)
		}
	})
}

func TestFrameLimiterDryRunAndOff(t *testing.T) {
	for _, row := range []struct {
		name      string
		limiter   *FrameLimiter
		throttled bool
	}{{"dry run", newFrameLimiter(1, 1), true}, {"off", newFrameLimiter(0, 10), false}} {
		row.limiter.DryRun = row.name == "dry run"
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			_, err := io.Copy(io.Discard, row.limiter.recordConn("192.0.2.1", repeat(500, record(18))))
			if err != nil || time.Since(began) > 0 || row.limiter.Throttled() > 0 != row.throttled {
				t.Errorf("%s: got %v after %v, %d counted", row.name, err, time.Since(began), row.limiter.Throttled())
			}
		})
	}
}

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
			t.Errorf("got %v for the other half, want it charged", err)
		}
	})
}

// One read must not put an address seconds into debt.
func TestSmallUnitsAreReadInSmallChunks(t *testing.T) {
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
			t.Errorf("%s: got %d bytes from the second read and %v, want %d", row.name, n, err, row.most)
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
			t.Errorf("the reader waited %v, want Close to wake it", took)
		}
		began = time.Now()
		c.(*throttledConn).pause(time.Hour)
		if took := time.Since(began); took != 0 {
			t.Errorf("a closed connection waited %v", took)
		}
	})
}

// An HTTP/2 server refuses a connection without a connection state.
func TestFrameConnHasConnectionState(t *testing.T) {
	c := newFrameLimiter(1, 1).FrameConn(tls.Server(&scriptedConn{from: "192.0.2.1", in: bytes.NewReader(nil), chunk: 1}, &tls.Config{}))
	if _, ok := c.(interface{ ConnectionState() tls.ConnectionState }); !ok {
		t.Error("the connection has no ConnectionState")
	}
}
