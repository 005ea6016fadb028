package attack

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// slowConn is a connection of which a few bytes are read now and then, until it is released.
type slowConn struct {
	net.Conn
	fast *atomic.Bool
}

func (c *slowConn) Read(p []byte) (int, error) {
	if c.fast.Load() {
		return c.Conn.Read(p)
	}
	time.Sleep(100 * time.Millisecond)
	return c.Conn.Read(p[:min(len(p), 32)])
}

// slowReceiver receives over a stream that it reads slowly, and acknowledges each message. It
// resumes when the server has ended the stream.
type slowReceiver struct {
	s          *scenario
	name, from string
	webSocket  bool
	fast       atomic.Bool
	after      uint64
	numbers    []int // received
	opened     int
}

// open opens the stream. next returns the next message, and ack acknowledges it.
func (r *slowReceiver) open(ctx context.Context) (next func() (id uint64, body string, err error), ack func(id uint64) error, conn net.Conn, err error) {
	raw, err := r.s.dialSmallBuffer(ctx, r.from, "http/1.1")
	if err != nil {
		return nil, nil, nil, err
	}
	r.opened++
	after := ""
	if r.after > 0 {
		after = strconv.FormatUint(r.after, 10)
	}
	slow := &slowConn{raw, &r.fast}
	if r.webSocket {
		w, status, err := startWS(slow, "")
		if err == nil && w == nil {
			err = fmt.Errorf("upgrade: got %d", status)
		}
		if err == nil {
			err = w.hello(r.name, " after="+after)
		}
		return func() (uint64, string, error) { return nextFrame(w) },
			func(id uint64) error { return w.text(fmt.Sprintf("ack %d", id)) }, raw, err
	}
	if _, err = io.WriteString(slow, requestHead("GET", "/inbox?after="+after, r.name)+acceptEvents+"\r\n"); err != nil {
		return nil, nil, raw, err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(slow, 1024), nil)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("event stream: got %s", resp.Status)
	}
	if err != nil {
		return nil, nil, raw, err
	}
	events, owner := &eventReader{resp.Body, bufio.NewReaderSize(resp.Body, 1024)}, r.s.peer(r.name, r.from)
	return func() (uint64, string, error) {
			e, err := events.next()
			if err == nil && e.Kind != "message" {
				err = io.EOF
			}
			return e.ID, e.Body, err
		}, func(id uint64) error {
			status, err := requestStatus(ctx, owner, "POST", fmt.Sprintf("/ack?upTo=%d", id), nil)
			if err == nil && status != http.StatusNoContent {
				err = fmt.Errorf("acknowledge: got %d", status)
			}
			return err
		}, raw, nil
}

// nextFrame returns the ID and the body of the next message.
func nextFrame(w *wsConn) (id uint64, body string, err error) {
	for {
		op, frame, err := w.readFrame()
		switch {
		case err != nil:
			return 0, "", err
		case op == opClose:
			return 0, "", io.EOF
		case op == opPing:
			_, err = io.WriteString(w, wsFrame(fin|opPong, frame))
			if err != nil {
				return 0, "", err
			}
		case strings.HasPrefix(frame, "msg "):
			fields := strings.SplitN(frame, " ", 5)
			id, err = strconv.ParseUint(fields[1], 10, 64)
			return id, fields[4], err
		}
	}
}

// receive receives until all messages have arrived.
func (r *slowReceiver) receive(ctx context.Context, total func() (n int, final bool)) error {
	for ctx.Err() == nil {
		next, ack, conn, err := r.open(ctx)
		if err != nil {
			return err
		}
		for err == nil {
			if n, final := total(); final && len(r.numbers) >= n {
				return conn.Close()
			}
			err = r.take(next, ack)
		}
		conn.Close()
	}
	return ctx.Err()
}

func (r *slowReceiver) take(next func() (uint64, string, error), ack func(uint64) error) error {
	id, body, err := next()
	if err != nil {
		return err
	}
	if number, _, _ := strings.Cut(body, " "); id > r.after {
		n, _ := strconv.Atoi(number)
		r.numbers, r.after = append(r.numbers, n), id
	}
	return ack(id)
}

// slowStreams floods the mailboxes of receivers that read a few hundred bytes a second. What was
// accepted must arrive, in order, when they read faster at last.
func slowStreams(slowFor time.Duration) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		const receivers, size = 8, 16 << 10
		var accepted, refused, reopened atomic.Int64
		parallel(receivers, receivers, func(i int) {
			r := &slowReceiver{s: s, name: fmt.Sprint("slow", i), from: attackerAddr(i), webSocket: i%2 == 0}
			owner := s.peer(r.name, r.from)
			if err := wantStatus(ctx, owner, "GET", "?wait=0", http.StatusNoContent); err != nil {
				s.fail("%s: %v", r.name, err)
				return
			}
			owner.HTTP.CloseIdleConnections()
			var stored atomic.Int64
			var final atomic.Bool
			received := make(chan error, 1)
			go func() { received <- r.receive(ctx, func() (int, bool) { return int(stored.Load()), final.Load() }) }()
			s.floodMailbox(ctx, r.name, attackerAddr(100+i), slowFor, size, &stored, &refused)
			r.fast.Store(true)
			total := int(stored.Add(1)) // with the last one, so that the receiver does not wait for another
			final.Store(true)
			sender := s.peer("last-"+r.name, attackerAddr(200+i))
			for err := error(io.EOF); err != nil && ctx.Err() == nil; sleep(ctx, 100*time.Millisecond) {
				err = sender.Send(ctx, r.name, "text/plain", fmt.Appendf(nil, "%d ", total-1), 0)
			}
			sender.HTTP.CloseIdleConnections()
			r.check(<-received, total)
			accepted.Add(stored.Load())
			reopened.Add(int64(r.opened - 1))
		})
		s.addFigure("%d receivers, %d messages of 16 KiB accepted and received in order, %d refused, %d streams ended and resumed",
			receivers, accepted.Load(), refused.Load(), reopened.Load())
	}
}

// floodMailbox sends numbered messages for some time, each until it is accepted.
func (s *scenario) floodMailbox(ctx context.Context, name, from string, d time.Duration, size int, stored, refused *atomic.Int64) {
	sender, padding := s.peer("sender-"+name, from), strings.Repeat("x", size)
	defer sender.HTTP.CloseIdleConnections()
	for until := time.Now().Add(d); time.Now().Before(until) && ctx.Err() == nil; {
		if err := sender.Send(ctx, name, "text/plain", fmt.Appendf(nil, "%d %s", stored.Load(), padding), 0); err != nil {
			refused.Add(1)
			sleep(ctx, 20*time.Millisecond)
			continue
		}
		stored.Add(1)
	}
}

// check reports what is missing or out of order.
func (r *slowReceiver) check(err error, want int) {
	if err != nil || len(r.numbers) != want {
		r.s.fail("%s: received %d of %d messages, %v", r.name, len(r.numbers), want, err)
		return
	}
	for i, n := range r.numbers {
		if n != i {
			r.s.fail("%s: message %d arrived in place of %d", r.name, n, i)
			return
		}
	}
}
