package attack

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"inbox/e2e/turnclient"

	"github.com/pion/stun/v4"
)

const (
	drippedStreams = 256
	// maxDrippedBytes bounds the memory that the dripped frames take.
	maxDrippedBytes = 20 << 20
)

// dripFrames opens allocations over TLS and sends frames on them that claim 64 KiB: byte by
// byte for d, and then all bytes but the last one.
func dripFrames(d time.Duration) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		var clients [drippedStreams]*turnclient.Client
		parallel(len(clients), 16, func(i int) {
			c, err := s.allocateTLS(ctx, fmt.Sprint("drip-", i), attackerAddr(i/4))
			if err != nil {
				s.fail("stream %d: %v", i, err)
				return
			}
			clients[i] = c
		})
		before := s.proc.RSS()
		var dripped atomic.Int64
		parallel(len(clients), len(clients), func(i int) {
			if clients[i] != nil {
				dripped.Add(dripFrame(clients[i].Conn(), i, d))
			}
		})
		grown := s.proc.RSS() - before
		s.addFigure("%d streams, %d bytes one by one, %d MiB more memory", len(clients), dripped.Load(), grown>>20)
		if grown > maxDrippedBytes {
			s.fail("got %d MiB more memory, want at most %d", grown>>20, maxDrippedBytes>>20)
		}
		for _, c := range clients {
			if c != nil {
				c.Close()
			}
		}
	}
}

// dripFrame sends a frame of ChannelData or of STUN, and returns the number of bytes that it
// sent one by one. It ignores errors: the server can close the stream.
func dripFrame(conn net.Conn, i int, d time.Duration) (dripped int64) {
	frame := make([]byte, 4+0xFFFC)
	binary.BigEndian.PutUint16(frame, turnChannel)
	if i%2 > 0 {
		frame = stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
		frame = append(frame, make([]byte, 0xFFFC)...)
	}
	binary.BigEndian.PutUint16(frame[2:], 0xFFFC)
	for began := time.Now(); time.Since(began) < d && dripped < int64(len(frame)-1); dripped++ {
		if _, err := conn.Write(frame[dripped : dripped+1]); err != nil {
			return dripped
		}
	}
	_, _ = conn.Write(frame[dripped : len(frame)-1])
	return dripped
}

// silentStreams opens streams that never get an allocation. The server must close each within
// ten seconds.
func silentStreams(ctx context.Context, s *scenario) {
	binding := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	unauthenticated := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest),
		stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}}).Raw
	kinds := []struct {
		name string
		send func(conn net.Conn)
	}{
		{"nothing sent", func(net.Conn) {}},
		{"part of a header", func(c net.Conn) { c.Write(binding[:10]) }},
		{"STUN every second", func(c net.Conn) { writeEvery(c, binding, time.Second) }},
		{"unauthenticated requests every second", func(c net.Conn) { writeEvery(c, unauthenticated, time.Second) }},
		{"first byte after eight seconds", func(c net.Conn) { time.Sleep(8 * time.Second); c.Write(binding[:1]) }},
	}
	parallel(len(kinds), len(kinds), func(i int) { s.closesSilent(ctx, 10*i, kinds[i].name, kinds[i].send) })
}

func writeEvery(c net.Conn, message []byte, interval time.Duration) {
	for {
		if _, err := c.Write(message); err != nil {
			return
		}
		time.Sleep(interval)
	}
}

// closesSilent checks that the server closes streams without an allocation. They come from
// ten addresses.
func (s *scenario) closesSilent(ctx context.Context, addr int, kind string, send func(net.Conn)) {
	const streams, limit = 50, 10 * time.Second
	var slowest, open atomic.Int64
	parallel(streams, streams, func(i int) {
		c, err := s.dial(ctx, attackerAddr(addr+i/5))
		if err != nil {
			s.fail("%s: %v", kind, err)
			return
		}
		defer c.Close()
		began := time.Now()
		go send(c)
		if !closedWithin(c, limit+20*time.Second) {
			open.Add(1)
		}
		for took := int64(time.Since(began)); ; {
			if old := slowest.Load(); took <= old || slowest.CompareAndSwap(old, took) {
				break
			}
		}
	})
	s.addFigure("%s: the last closed after %.1f s", kind, time.Duration(slowest.Load()).Seconds())
	if most := limit + 3*time.Second; open.Load() > 0 || time.Duration(slowest.Load()) > most {
		s.fail("%s: got %d of %d open, the last closed after %v; want all closed within %v", kind, open.Load(), streams,
			time.Duration(slowest.Load()), most)
	}
}

// malformedFrames sends what is no message, over TLS and UDP, and then checks that the server
// computes nothing any more and still answers.
func malformedFrames(ctx context.Context, s *scenario) {
	credentials, err := s.turnCredentials(ctx, "frames", attackerAddr(0))
	if err != nil {
		s.fail("%v", err)
		return
	}
	began := s.cpu()
	sent := 0
	for round := range 20 {
		for i, frame := range badFrames() {
			udp, err := credentials.udp(attackerAddr(round))
			if err != nil {
				s.fail("%v", err)
				return
			}
			udp.Conn().Write(frame)
			udp.Close()
			if round < 5 {
				s.sendFrame(ctx, frame, attackerAddr(10+i))
			}
			sent++
		}
	}
	used := s.cpu() - began
	const idle = 2 * time.Second
	began = s.cpu()
	sleep(ctx, idle)
	if spinning := s.cpu() - began; spinning > idle/2 {
		s.fail("got %v of CPU in %v after malformed frames, want an idle server", spinning, idle)
	}
	s.addFigure("%d frames, %d ms of CPU", sent, used.Milliseconds())
	c, err := s.allocateUDP(ctx, "after", callerAddr)
	if err == nil {
		err = c.Release()
	}
	if err != nil {
		s.fail("after malformed frames: %v", err)
	}
}

// sendFrame sends a frame on an own stream.
func (s *scenario) sendFrame(ctx context.Context, frame []byte, from string) {
	c, err := s.dial(ctx, from)
	if err != nil {
		s.fail("%v", err)
		return
	}
	c.Write(frame)
	context.AfterFunc(ctx, func() { c.Close() }) // stays open, so that its reader could spin
}

// badFrames returns frames that have broken TURN servers, and random ones.
func badFrames() [][]byte {
	request := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest),
		stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}}, stun.NewUsername("a")).Raw
	truncated := append([]byte(nil), request[:len(request)-2]...)
	tooLong := append([]byte(nil), request...)
	binary.BigEndian.PutUint16(tooLong[len(tooLong)-6:], 0xFFFF) // the length of an attribute
	wrongCookie := append([]byte(nil), request...)
	wrongCookie[4]++
	frames := [][]byte{
		{0x40, 0, 0xFF, 0xFC}, {0x40, 0, 0xFF, 0xFF}, {0x7F, 0xFF, 0, 0}, {0x40, 0, 0, 0}, {0}, {0, 1}, {0, 1, 0, 0},
		{0x80, 0, 0, 4, 0, 0, 0, 0}, make([]byte, 20), make([]byte, 1600), request[:20], truncated, tooLong, wrongCookie,
	}
	for size := 1; size <= 1024; size *= 4 {
		random := make([]byte, size)
		rand.Read(random)
		random[0] &= 0x43 // STUN or ChannelData
		frames = append(frames, random)
	}
	return frames
}
