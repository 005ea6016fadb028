package topics

import (
	"sync"

	"inbox/inbox"
)

const (
	// MaxQueueBytes bounds the frames that wait for a client, besides the one that is being
	// written and what the kernel holds. A single frame can wait, however large it is.
	MaxQueueBytes = 256 << 10
	// freeQueueBytes of a queue do not count against the budget, which most frames thus never
	// touch. Above it, they count in steps.
	freeQueueBytes, queueStepBytes = 4 << 10, 16 << 10
)

// queue has the frames that wait to be written to a client. It takes memory only while there are
// some. All methods can be called concurrently.
type queue struct {
	budget *budget
	payer  inbox.Payer

	mu       sync.Mutex
	frames   [][]byte
	waiting  int // bytes of frames
	inFlight int // bytes of the frame that is being written
	writing  bool
	closed   bool
	reserved reservation
	// dropOldest lets a queue lose its oldest frames if there is no room for a new one. Otherwise
	// it is closed.
	dropOldest bool
}

// result is that of a push.
type result struct {
	start   bool // the caller must start to write
	closed  bool // there was no room for the frame
	dropped int  // frames that were dropped; without room for it, also the new one
}

// setDropOldest sets dropOldest, which is false before.
func (q *queue) setDropOldest(on bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dropOldest = on
}

// push adds a frame. Those of a closed queue are dropped.
func (q *queue) push(frame []byte) (r result) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return result{}
	}
	for !q.fitsLocked(len(frame)) {
		switch {
		case !q.dropOldest:
			q.closeLocked()
			return result{closed: true}
		case len(q.frames) == 0:
			r.dropped++
			return r
		}
		q.popLocked()
		r.dropped++
	}
	q.frames = append(q.frames, frame)
	q.waiting += len(frame)
	r.start, q.writing = !q.writing, true
	return r
}

// fitsLocked reports whether there is room for n more bytes, for which it reserves memory.
func (q *queue) fitsLocked(n int) bool {
	if len(q.frames) > 0 && q.waiting+n > MaxQueueBytes {
		return false
	}
	need := int64(q.waiting + q.inFlight + n - freeQueueBytes)
	if need <= q.reserved.bytes {
		return true
	}
	return q.budget.resize(&q.reserved, q.payer, (need+queueStepBytes-1)/queueStepBytes*queueStepBytes)
}

func (q *queue) popLocked() []byte {
	frame := q.frames[0]
	q.frames[0] = nil
	q.frames = q.frames[1:]
	q.waiting -= len(frame)
	return frame
}

// next returns the next frame to write, after the last one has been written. Without one it
// returns nil, and the caller must stop to write.
func (q *queue) next() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inFlight = 0
	if len(q.frames) == 0 {
		q.writing, q.frames = false, nil
		q.budget.resize(&q.reserved, q.payer, 0)
		return nil
	}
	frame := q.popLocked()
	q.inFlight = len(frame)
	return frame
}

// close drops what waits, and all that follows.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closeLocked()
}

// closeLocked keeps the memory of the frame that is being written reserved: next releases it.
func (q *queue) closeLocked() {
	q.closed, q.frames, q.waiting = true, nil, 0
	if !q.writing {
		q.budget.resize(&q.reserved, q.payer, 0)
	}
}
