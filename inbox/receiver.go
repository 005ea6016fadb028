package inbox

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"inbox/inbox/internal/body"
)

// Window is how many messages of a stream, which is an event stream or a WebSocket, stay in the
// mailbox after they were written: until they are acknowledged, or as many later ones were
// written. It is two thirds of [Config.Capacity] if that is less. The rest of the mailbox takes
// what senders put meanwhile: 36 messages with a capacity of 100, 28 for a plain stream.
const Window = 64

func windowOf(capacity int) uint64 {
	if capacity <= 0 {
		return Window
	}
	return uint64(min(Window, capacity*2/3))
}

const (
	// retryEvery is how soon a receiver tries an unavailable store again, or looks for an
	// acknowledgement that another node got. The latter interval doubles up to maxRetryEvery.
	retryEvery    = time.Second
	maxRetryEvery = 16 * time.Second
	// handOutTime bounds one handOut, unless a single write takes longer: while a client reads
	// slowly, there can always be another message for it.
	handOutTime = 50 * time.Millisecond
	// maxEarly messages are handed out at once in the goroutine of a sender, up to this size: those
	// for which nothing has to be reserved.
	maxEarly, maxEarlyBytes = 16, body.InitialBytes
)

var (
	errWindowFull = errors.New("the window is full")
	errNotWritten = errors.New("acknowledges a message that was not sent")
	errMore       = errors.New("there can be more messages")
)

// receiver takes the messages of one mailbox for one client, over any transport: a long poll, an
// event stream or a WebSocket. The mailbox is its only queue. It reads with a cursor, and each
// message stays in the mailbox until it is discarded:
//
//   - With acknowledgements, by its client. While window messages are not acknowledged, none
//     is handed out.
//   - Without, which is plain, after window later ones were written. A window of 0 discards each
//     message once it is written.
//
// A receiver needs no goroutine while it waits: wake, given to watch, schedules the work. The
// steps of a transport:
//
//	err := h.openReceiver(r, key, ack, rc)  // an error is a refusal
//	defer rc.leave()
//	err = rc.watch(wake)                    // unless it does not wait
//	err = rc.handOut(ctx, write)            // now, and after each wake
//
// handOut returns nil when the receiver waits, errMore when it must be called again, and otherwise
// why the receiver is over: ErrSuperseded, ErrClaimEnded, ErrStopping, an error of write, or a
// failure of the store.
type receiver struct {
	turns   *turns
	store   Store
	counts  *receiverCounts
	log     *slog.Logger
	name    string
	client  Client
	window  uint64
	claim   Claim
	opened  *openResult // what OpenNext returned; nil once it is read
	plain   bool
	retries uint8  // without an acknowledgement
	early   bool   // handOut runs in the goroutine of a sender
	tryWake func() // what notify calls for a message, if not nil: without a lock, so it can hand out

	// The mutex of turns guards the rest.
	state    receiverState
	admitted bool          // its password is the right one
	again    bool          // a message can have come while one was handed out
	stalled  bool          // it waits for an acknowledgement
	reason   error         // why it is over, or must end; nil before
	retry    *time.Timer   // notifies it, to try again; nil before
	stop     func()        // ends the watch; nil without one
	ready    chan struct{} // closed when a queued one has the turn or is over
	wakeFunc func()
	// acked is the ID up to which messages are acknowledged or were never handed out, and
	// written that of the last one that was handed out, which is the cursor.
	acked, written uint64
}

// openResult is a result of OpenNext.
type openResult struct {
	message Message
	err     error
}

// receiverState is what a receiver does. Its transitions:
//
//	queued -> opening -> handingOut <-> waiting
//	 any of them -> over
type receiverState uint8

const (
	queued     receiverState = iota // waits for its turn
	opening                         // the store compares its password and reads the first message
	handingOut                      // its transport looks for messages and writes them
	waiting                         // for a message, an acknowledgement or the end
	over
)

// receiverCounts counts the receivers of one transport, and what happened to messages.
type receiverCounts struct {
	open                         atomic.Int64 // they wait, or a stream is written
	autoAck, manualAck, requeued atomic.Int64
}

// holdsTurnLocked reports whether a newer receiver has to wait for rc.
func (rc *receiver) holdsTurnLocked() bool {
	return rc.state == opening || rc.state == handingOut && rc.plain && rc.window == 0
}

// takeTurnLocked gives rc the turn for which it waited, also if it is over.
func (rc *receiver) takeTurnLocked() {
	rc.state = opening
	rc.becomeReadyLocked()
}

func (rc *receiver) becomeReadyLocked() {
	if rc.ready != nil {
		close(rc.ready)
		rc.ready = nil
	}
}

// endLocked ends rc for that reason, unless it has one already. One that hands out messages
// notices it before the next one.
func (rc *receiver) endLocked(reason error) {
	if rc.reason != nil {
		return
	}
	rc.reason = reason
	rc.becomeReadyLocked()
	if rc.state == waiting {
		rc.state = over
		rc.wakeLocked()
	}
}

func (rc *receiver) wakeLocked() {
	if rc.wakeFunc != nil {
		rc.wakeFunc()
	}
}

// start begins to hand out what OpenNext returned.
func (rc *receiver) start(c Claim, m Message, err error) {
	rc.claim, rc.opened = c, &openResult{m, err}
	rc.turns.admit(rc)
}

// isOver reports whether rc has a reason to end.
func (rc *receiver) isOver() bool {
	rc.turns.mu.Lock()
	defer rc.turns.mu.Unlock()
	return rc.reason != nil
}

// watch registers rc with the store. wake is called once each time that rc stops waiting, under a
// lock, from any goroutine: it must not block and must not call rc. For a message, tryWake replaces
// it if it is set.
func (rc *receiver) watch(wake func()) error {
	rc.turns.mu.Lock()
	rc.wakeFunc = wake
	reason := rc.reason
	rc.turns.mu.Unlock()
	if reason != nil {
		return reason
	}
	stop, err := rc.store.Watch(rc.claim, rc.notify)
	if err != nil {
		return rc.end(err)
	}
	rc.counts.open.Add(1)
	rc.turns.mu.Lock()
	defer rc.turns.mu.Unlock()
	rc.stop = stop
	return nil
}

// notify is what the store calls.
func (rc *receiver) notify(end error) {
	rc.turns.mu.Lock()
	if rc.tryWake == nil || end != nil || rc.state != waiting {
		rc.notifyLocked(end)
		rc.turns.mu.Unlock()
		return
	}
	rc.state, rc.stalled = handingOut, false
	rc.turns.mu.Unlock()
	rc.tryWake()
}

func (rc *receiver) notifyLocked(end error) {
	switch {
	case end != nil:
		rc.endLocked(end)
	case rc.state == waiting:
		rc.state, rc.stalled = handingOut, false
		rc.wakeLocked()
	case rc.state == handingOut:
		rc.again = true
	}
}

// end ends rc and returns the reason, which is err unless there was one before.
func (rc *receiver) end(err error) error {
	rc.turns.mu.Lock()
	defer rc.turns.mu.Unlock()
	rc.endLocked(err)
	rc.state = over
	return rc.reason
}

// leave ends rc, and its watch. It can be called from any goroutine once rc is watched. A second
// call does nothing. A handOut that runs ends at its next message.
func (rc *receiver) leave() {
	rc.turns.mu.Lock()
	stop := rc.stop
	rc.stop = nil
	rc.turns.leaveLocked(rc)
	rc.turns.mu.Unlock()
	if stop != nil {
		stop()
		rc.counts.open.Add(-1)
	}
}

// handOut writes messages until rc waits, which is nil, or is over, which is the reason, or for
// handOutTime, which is errMore. If early, errMore follows maxEarly messages, and precedes one that
// is large. write returns errMore if it has written a message, and can write no other at present.
// One call can run at a time.
func (rc *receiver) handOut(ctx context.Context, write func(Message) error) error {
	by := time.Time{}
	if !rc.early {
		by = time.Now().Add(handOutTime)
	}
	for n := 1; ; n++ {
		m, err := rc.next(ctx)
		if err == ErrEmpty {
			return nil
		}
		if err != nil {
			return err
		}
		err = write(m)
		if err != nil && err != errMore {
			rc.counts.requeued.Add(1)
			return err
		}
		rc.wrote()
		if err == errMore || rc.early && n == maxEarly || !rc.early && time.Until(by) <= 0 {
			return errMore
		}
	}
}

// next returns the next message to write. ErrEmpty means that rc waits; another error that it is
// over.
func (rc *receiver) next(ctx context.Context) (Message, error) {
	for {
		m, err := rc.read(ctx)
		switch {
		case err == nil && rc.early && len(m.Body) > maxEarlyBytes:
			err = errMore
		case err == nil:
			return m, rc.took(m.ID)
		case errors.Is(err, ErrEmpty):
			err = rc.rest(0, false)
		case errors.Is(err, ErrStoreUnavailable):
			err = rc.rest(retryEvery, false)
		case err == errWindowFull:
			err = rc.rest(rc.ackRetry(), true)
		default:
			err = rc.end(err)
		}
		if err != nil {
			return Message{}, err
		}
	}
}

// read returns the oldest message after the cursor.
func (rc *receiver) read(ctx context.Context) (Message, error) {
	if first := rc.opened; first != nil {
		rc.opened = nil
		return first.message, first.err
	}
	cursor, full, err := rc.cursor()
	if err == nil && full {
		err = rc.findAcknowledgement(ctx)
	}
	if err != nil {
		return Message{}, err
	}
	return rc.store.Next(ctx, rc.claim, cursor)
}

// cursor returns the ID of the last message that was handed out, and whether the window is full.
func (rc *receiver) cursor() (id uint64, full bool, err error) {
	rc.turns.mu.Lock()
	defer rc.turns.mu.Unlock()
	return rc.written, rc.isFullLocked(), rc.reason
}

func (rc *receiver) isFullLocked() bool {
	return !rc.plain && rc.written-rc.acked >= max(rc.window, 1)
}

// findAcknowledgement looks for one in the store: another request has made it, maybe at another
// node.
func (rc *receiver) findAcknowledgement(ctx context.Context) error {
	oldest, err := rc.store.Next(ctx, rc.claim, 0)
	if errors.Is(err, ErrEmpty) {
		oldest.ID, err = math.MaxUint64, nil
	}
	if err != nil {
		return err
	}
	if rc.advanceAcked(oldest.ID - 1); rc.isFull() {
		return errWindowFull
	}
	return nil
}

// advanceAcked notes that the messages through id are discarded.
func (rc *receiver) advanceAcked(id uint64) {
	rc.turns.mu.Lock()
	defer rc.turns.mu.Unlock()
	rc.acked = max(rc.acked, min(id, rc.written))
	if rc.stalled && !rc.isFullLocked() {
		rc.notifyLocked(nil)
	}
}

func (rc *receiver) isFull() bool {
	_, full, _ := rc.cursor()
	return full
}

// ackRetry returns when to look again for an acknowledgement.
func (rc *receiver) ackRetry() time.Duration {
	rc.retries = min(rc.retries+1, 5)
	return min(retryEvery<<(rc.retries-1), maxRetryEvery)
}

// took moves the cursor to a message. An error is why the message must not be written.
func (rc *receiver) took(id uint64) error {
	rc.turns.mu.Lock()
	defer rc.turns.mu.Unlock()
	if rc.reason != nil {
		rc.state = over
		return rc.reason
	}
	rc.retries = 0
	// What precedes the message was discarded before, or a store has lost the last messages in a
	// failover and gives their IDs again.
	if rc.written == rc.acked || id <= rc.written {
		rc.acked = id - 1
	}
	rc.written = id
	return nil
}

// rest lets rc wait, at most for a time if that is not zero, for a message or for an
// acknowledgement. ErrEmpty means that it does, nil that there can be one already.
func (rc *receiver) rest(wait time.Duration, forAck bool) error {
	rc.turns.mu.Lock()
	defer rc.turns.mu.Unlock()
	switch {
	case rc.reason != nil:
		rc.state = over
		return rc.reason
	case rc.again, forAck && !rc.isFullLocked():
		rc.again = false
		return nil
	}
	rc.state, rc.stalled = waiting, forAck
	if wait > 0 && rc.retry == nil {
		rc.retry = time.AfterFunc(wait, func() { rc.notify(nil) })
	} else if wait > 0 {
		rc.retry.Reset(wait)
	}
	return ErrEmpty
}

// wrote counts a message that was written. If rc is plain it discards those that are older than
// the window, some at a time.
func (rc *receiver) wrote() {
	if !rc.plain {
		rc.counts.manualAck.Add(1)
		return
	}
	rc.counts.autoAck.Add(1)
	rc.turns.mu.Lock()
	upTo, due := rc.written-rc.window, rc.written-rc.acked > rc.window+rc.window/8
	rc.turns.mu.Unlock()
	if !due {
		return
	}
	// The receiver has them, even if it closes the connection now.
	if err := rc.store.Discard(context.Background(), rc.claim, upTo); err == nil {
		rc.advanceAcked(upTo)
	} else if !errors.Is(err, ErrClaimEnded) && !errors.Is(err, ErrStopping) {
		rc.log.Error("discard a delivered message", "err", err)
	}
}

// acknowledge discards the messages through id, and lets rc hand out more. It can be called while
// a message is handed out. The error is errNotWritten for a message that was not handed out yet,
// or one of the store.
func (rc *receiver) acknowledge(ctx context.Context, id uint64) error {
	if last, _, _ := rc.cursor(); id > last {
		return errNotWritten
	}
	if err := rc.store.Discard(ctx, rc.claim, id); err != nil {
		return err
	}
	rc.advanceAcked(id)
	return nil
}

// await is next that waits for a message, at most for a time.
func (rc *receiver) await(ctx context.Context, wait time.Duration) (Message, error) {
	events := make(chan struct{}, 1)
	if err := rc.watch(func() { events <- struct{}{} }); err != nil {
		return Message{}, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-events:
			if m, err := rc.next(ctx); !errors.Is(err, ErrEmpty) {
				return m, err
			}
		case <-timer.C:
			_, _, end := rc.cursor()
			return Message{}, cmp.Or(end, ErrEmpty)
		case <-ctx.Done():
			return Message{}, ctx.Err()
		}
	}
}

// WaitNext is Next that waits up to wait for a message. When the store becomes
// unavailable during the wait, WaitNext keeps trying until the wait is over.
//
// Errors: those of Next and of Watch; ErrEmpty if no message came in time.
func WaitNext(ctx context.Context, s Store, c Claim, after uint64, wait time.Duration) (Message, error) {
	if wait <= 0 {
		return s.Next(ctx, c, after)
	}
	rc := &receiver{turns: new(turns), store: s, counts: new(receiverCounts), plain: true, claim: c, state: waiting, written: after}
	defer rc.leave()
	return rc.await(ctx, wait)
}
