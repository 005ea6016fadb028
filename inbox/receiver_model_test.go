package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"testing"

	"inbox/inbox"
)

// receiverModel is a client of a mailbox over connections that break. It knows which messages were
// put, and checks that it gets each of them, in order, and each always with the same ID.
type receiverModel struct {
	*rig
	put  int      // messages that were put; they are numbered from 1
	ids  []uint64 // by number
	seen int      // the client has seen all messages through this one
	kept int      // the window

	open    bool
	manual  bool
	stream  inbox.Stream
	woken   atomic.Bool
	written []int // on this connection
	acked   int   // on this connection
	trace   []string
}

func newReceiverModel(t *testing.T, capacity int) *receiverModel {
	m := &receiverModel{ids: make([]uint64, 1), kept: inbox.Window}
	if capacity > 0 {
		m.kept = min(m.kept, capacity*2/3)
	}
	m.rig = newRig(t, func(c *inbox.Config, l *inbox.Limits) { l.Capacity, c.Capacity = capacity, capacity })
	m.do("bob", "GET", "/inbox?wait=0", "")
	return m
}

func (m *receiverModel) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("window %d, %v: %s", m.kept, m.trace, fmt.Sprintf(format, args...))
}

// send puts a message, unless the mailbox is full.
func (m *receiverModel) send() {
	w := m.do("alice", "POST", "/inbox?to=bob", strconv.Itoa(m.put+1))
	switch w.Code {
	case 200:
		m.put++
		m.ids = append(m.ids, 0)
	case 503:
	default:
		m.fail("got %d %s for a message", w.Code, w.Body)
	}
}

// connect opens a stream: with acknowledgements or without, and with what was seen or without.
func (m *receiverModel) connect(manual, resume bool) {
	m.drop(0)
	after := uint64(0)
	if resume {
		after = m.ids[m.seen]
	}
	m.woken.Store(false)
	var err error
	if m.stream, err = m.OpenStream(request("bob", "GET", "/inbox", ""), manual, after, func() { m.woken.Store(true) }); err != nil {
		m.fail("open: %v", err)
	}
	m.open, m.manual, m.written, m.acked = true, manual, nil, 0
	m.run(-1)
}

// run hands out messages. After some, the write fails.
func (m *receiverModel) run(failAfter int) {
	if !m.open {
		return
	}
	broken := errors.New("broken")
	err := m.stream.HandOut(request("bob", "GET", "/inbox", ""), func(msg inbox.Message) error {
		if failAfter == 0 {
			return broken
		}
		failAfter--
		n := m.receive(msg)
		if len(m.written) > 0 && n != m.written[len(m.written)-1]+1 {
			m.fail("got message %d after %d", n, m.written[len(m.written)-1])
		}
		m.written = append(m.written, n)
		return nil
	})
	if m.manual && len(m.written) > 0 && m.written[len(m.written)-1]-max(m.acked, m.written[0]-1) > max(m.kept, 1) {
		m.fail("wrote %v, and %d are acknowledged", m.written, m.acked)
	}
	switch {
	case err == nil:
	case errors.Is(err, broken):
		m.drop(len(m.written))
	default:
		m.fail("hand out: %v", err)
	}
}

// receive checks a message and returns its number.
func (m *receiverModel) receive(msg inbox.Message) int {
	n, err := strconv.Atoi(string(msg.Body))
	if err != nil || n > m.put {
		m.fail("got message %q of %d", msg.Body, m.put)
	}
	if m.ids[n] == 0 {
		m.ids[n] = msg.ID
	}
	if m.ids[n] != msg.ID {
		m.fail("got message %d with ID %d, it had %d", n, msg.ID, m.ids[n])
	}
	if len(m.written) == 0 && n > m.seen+1 {
		m.fail("got message %d first, want %d or an earlier one", n, m.seen+1)
	}
	return n
}

// drop breaks the connection. The client has not seen the last messages: as many as are kept
// without an acknowledgement.
func (m *receiverModel) drop(lost int) {
	if !m.open {
		return
	}
	if !m.manual {
		lost = min(lost, m.kept)
	}
	m.stream.Leave()
	m.open = false
	if n := len(m.written) - lost; n > 0 {
		m.seen = max(m.seen, m.written[n-1])
	}
	m.written = nil
}

// ack acknowledges some of what was written.
func (m *receiverModel) ack(n int) {
	if !m.open || !m.manual || len(m.written) == 0 {
		return
	}
	last := m.written[n%len(m.written)]
	if err := m.stream.Acknowledge(request("bob", "GET", "/inbox", ""), m.ids[last]); err != nil {
		m.fail("acknowledge %d: %v", last, err)
	}
	m.acked, m.seen = max(m.acked, last), max(m.seen, last)
	m.runWoken()
	if got, want := m.written[len(m.written)-1], min(m.put, m.acked+max(m.kept, 1)); got < want {
		m.fail("the last message is %d after an acknowledgement of %d, want %d", got, m.acked, want)
	}
}

func (m *receiverModel) runWoken() {
	if m.woken.Swap(false) {
		m.run(-1)
	}
}

// poll reads one message with a long poll, which ends the stream.
func (m *receiverModel) poll(query string) {
	m.drop(len(m.written) / 2)
	w := m.do("bob", "GET", "/inbox?wait=0"+query, "")
	if w.Code != 200 {
		return
	}
	id, _ := strconv.ParseUint(w.Header().Get("X-Message-Id"), 10, 64)
	m.seen = max(m.seen, m.receive(inbox.Message{ID: id, Body: w.Body.Bytes()}))
}

// step takes one step of a script.
func (m *receiverModel) step(op byte) {
	n := int(op >> 3)
	m.trace = append(m.trace, fmt.Sprintf("%d.%d", op&7, n))
	switch op & 7 {
	case 0:
		m.connect(n&1 == 0, n&2 == 0)
	case 1:
		for range n {
			m.send()
		}
	case 2:
		m.send()
		m.runWoken()
	case 3:
		m.run(n)
	case 4:
		m.ack(n)
	case 5:
		m.ack(len(m.written) + n)
	case 6:
		m.drop(n)
	case 7:
		m.poll([]string{"", "&after=", "&after=" + strconv.FormatUint(m.ids[m.seen], 10)}[n%3])
	}
}

// finish reads what is left, and checks that nothing was lost.
func (m *receiverModel) finish() {
	m.drop(0)
	for m.seen < m.put {
		before := m.seen
		m.poll("&after=" + strconv.FormatUint(m.ids[m.seen], 10))
		if m.seen == before {
			m.fail("message %d of %d is lost", m.seen+1, m.put)
		}
	}
}

func runReceiverModel(t *testing.T, capacity int, script []byte) {
	m := newReceiverModel(t, capacity)
	for _, op := range script {
		m.step(op)
	}
	m.finish()
}

// TestReceiverModel takes random steps: put, acknowledge, drop the connection, resume.
func TestReceiverModel(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 0))
		script := make([]byte, 200)
		for i := range script {
			script[i] = byte(random.UintN(256))
		}
		runReceiverModel(t, []int{0, 1, 7, 100}[seed%4], script)
	}
}

// FuzzReceivers is TestReceiverModel with a script of the fuzzer.
func FuzzReceivers(f *testing.F) {
	for _, seed := range []string{"", "\x01\x00\x02\x04", "\x00\xf9\xf9\xf9\x04\x05\x06\x00", "\x08\xf9\xf9\xf9\xf9\x36\x08\x07\x0f\x17"} {
		f.Add(uint8(100), []byte(seed))
	}
	f.Fuzz(func(t *testing.T, capacity uint8, script []byte) {
		runReceiverModel(t, int(capacity), script[:min(len(script), 150)])
	})
}

// TestLeaveWhileHandingOut has the client hang up while a message is written, as another goroutine
// notices: the rest stays in the mailbox.
func TestLeaveWhileHandingOut(t *testing.T) {
	s := newRig(t, nil)
	s.do("bob", "GET", "/inbox?wait=0", "")
	s.sendNumbers(1, 3)
	r := request("bob", "GET", "/inbox", "")
	stream, err := s.OpenStream(r, true, 0, func() { t.Error("got a wake-up, want none") })
	if err != nil {
		t.Fatal(err)
	}
	written := 0
	err = stream.HandOut(r, func(inbox.Message) error { written++; stream.Leave(); return nil })
	if !errors.Is(err, context.Canceled) || written != 1 {
		t.Errorf("got %v after %d messages, want it to end after the first", err, written)
	}
	if got := s.Receivers()[inbox.WebSocket].Open; got != 0 {
		t.Errorf("got %d receivers, want none", got)
	}
	s.want(s.do("bob", "GET", "/inbox?after=", ""), 200, "1")
}

// TestAcknowledgeTooMuch checks that a client cannot acknowledge what it was not sent.
func TestAcknowledgeTooMuch(t *testing.T) {
	s := newRig(t, nil)
	s.do("bob", "GET", "/inbox?wait=0", "")
	s.sendNumbers(1, 2)
	r := request("bob", "GET", "/inbox", "")
	stream, err := s.OpenStream(r, true, 0, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Leave()
	last := uint64(0)
	stop := errors.New("stop")
	err = stream.HandOut(r, func(m inbox.Message) error { last = m.ID; return stop })
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if err := stream.Acknowledge(r, last+1); err == nil {
		t.Error("got no error for a message that was not sent")
	}
	if err := stream.Acknowledge(r, last); err != nil || s.store.Stats().Queued != 1 {
		t.Errorf("got %v and %d messages, want one acknowledged", err, s.store.Stats().Queued)
	}
}
