package inbox_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing/synctest"

	"github.com/gobwas/ws"
)

// documentSocket is a WebSocket of the document. It answers pings and close frames.
type documentSocket struct {
	conn net.Conn
	r    io.Reader

	mu      sync.Mutex
	arrived []string // frames, and "close CODE" for a close frame
	ended   bool
}

// dialSocket makes a WebSocket over a pipe.
func (s *server) dialSocket() (*documentSocket, error) {
	dialer := ws.Dialer{Protocols: []string{"inbox.1"}}
	dialer.NetDial = func(context.Context, string, string) (net.Conn, error) { return s.dial(), nil }
	conn, r, _, err := dialer.Dial(context.Background(), "ws://inbox.example/inbox")
	if err != nil {
		return nil, err
	}
	d := &documentSocket{conn: conn, r: conn}
	if r != nil {
		d.r = bufio.NewReader(io.MultiReader(r, conn))
	}
	go d.receive()
	return d, nil
}

func (d *documentSocket) receive() {
	defer d.conn.Close()
	for {
		f, err := readFrame(d.r)
		if err != nil {
			return
		}
		switch f.Header.OpCode {
		case ws.OpPing:
			d.write(ws.NewPongFrame(f.Payload))
		case ws.OpClose:
			d.note(fmt.Sprintf("close %d", binary.BigEndian.Uint16(f.Payload)), true)
			d.write(f)
		default:
			d.note(string(f.Payload), false)
		}
	}
}

func (d *documentSocket) note(frame string, ended bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.arrived = append(d.arrived, frame)
	d.ended = d.ended || ended
}

func (d *documentSocket) write(f ws.Frame) {
	d.conn.Write(ws.MustCompileFrame(ws.MaskFrame(f)))
}

// take returns the frames since the last call, and whether the server has sent a close frame.
func (d *documentSocket) take() (frames []string, ended bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	frames, d.arrived = d.arrived, nil
	return frames, d.ended
}

// runSocket sends the frames of a block, each a line, and compares those that arrive.
func (s *documentRunner) runSocket(b block) (err error) {
	d := s.sockets[b.stream]
	if d == nil {
		if d, err = s.servers[b.on].dialSocket(); err != nil {
			return err
		}
		s.sockets[b.stream] = d
	}
	if len(b.request) > 0 {
		for _, frame := range s.fill(b.request) {
			d.write(ws.NewTextFrame([]byte(frame)))
		}
	}
	synctest.Wait()
	got, ended := d.take()
	if ended {
		delete(s.sockets, b.stream)
	}
	if ended != b.ends {
		return fmt.Errorf("got the end of the WebSocket: %t, want %t, after %q", ended, b.ends, got)
	}
	return s.matchFrames(got, b.answer)
}

// matchFrames compares frames, one of which can be a refusal with a problem document.
func (s *documentRunner) matchFrames(got, want []string) error {
	got = slices.Clone(got)
	for i, frame := range got {
		if head, document, found := strings.Cut(frame, " {"); found && strings.HasPrefix(head, "fail ") && i < len(want) {
			wantHead, wantDocument, _ := strings.Cut(want[i], " {")
			if head != wantHead {
				return fmt.Errorf("got %q, want %q", frame, want[i])
			}
			if err := compareJSON("{"+document, "{"+wantDocument); err != nil {
				return err
			}
			got[i] = want[i]
		}
	}
	return s.match(strings.Join(got, "\n"), strings.Join(want, "\n"))
}
