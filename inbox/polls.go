package inbox

import (
	"context"
	"sync"
)

// polls serializes the polls of each mailbox. A newer poll supersedes those that
// wait. It waits for one that is being answered, so that no message is written
// twice while it is not known whether the first write arrived. A poll that resumes
// supersedes those of its own receiver only. It is refused if another receiver is
// settled, which the store has then recorded, too.
type polls struct {
	mu    sync.Mutex
	slots map[string]pollSlot
	ended bool
}

// pollSlot is the state of a mailbox that is being polled. Only the holder reads
// from the store. The newest is the holder or waits to become it. While the holder is the
// newest and not settled, a poll of another receiver can be resuming: it waits until the
// holder is settled, and is then refused, or leaves.
type pollSlot struct {
	holder, newest, resuming *poll
}

// poll is one GET. The lock of polls guards it. Most polls find a message at
// once; only one that waits has a context of its own.
type poll struct {
	name      string
	receiver  Receiver
	settled   bool            // the store has recorded its receiver
	endReason error           // why it must end, or nil
	ctx       context.Context // to wait in; nil until it waits
	cancel    context.CancelCauseFunc
	ready     chan struct{} // closed when it becomes the holder; nil if it was from the start
}

// endLocked ends p for that reason, unless it has one already.
func (p *poll) endLocked(reason error) {
	if p.endReason != nil {
		return
	}
	p.endReason = reason
	if p.cancel != nil {
		p.cancel(reason)
	}
}

// enter supersedes older polls of that name and waits until it is the holder. The
// caller must let the poll leave, also after an error.
func (ps *polls) enter(ctx context.Context, name string, receiver Receiver) (*poll, error) {
	p := &poll{name: name, receiver: receiver}
	if err := ps.add(p); err != nil || p.ready == nil {
		return p, err
	}
	ctx, err := ps.waitContext(ctx, p)
	if err != nil {
		return p, err
	}
	select {
	case <-p.ready:
		return p, ps.endReason(p)
	case <-ctx.Done():
		return p, context.Cause(ctx)
	}
}

// tryEnter returns a poll that is the holder, or nil if there is another poll of
// that name.
func (ps *polls) tryEnter(name string, receiver Receiver) *poll {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.ended || ps.slots[name].holder != nil {
		return nil
	}
	p := &poll{name: name, receiver: receiver}
	ps.slots[name] = pollSlot{holder: p, newest: p}
	return p
}

// add makes p the newest poll of its name, and the holder if the name has none. The
// error is why it must end at once.
func (ps *polls) add(p *poll) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.ended {
		p.endReason = ErrStopping
	}
	slot := ps.slots[p.name]
	switch {
	case slot.holder == nil:
		slot.holder, slot.newest = p, p
	case p.receiver.Resume && slot.newest.receiver.ID != p.receiver.ID:
		slot.resumeLocked(p)
	default:
		slot.endLocked(ErrSuperseded)
		p.ready = make(chan struct{})
		slot.newest, slot.resuming = p, nil
	}
	ps.slots[p.name] = slot
	return p.endReason
}

// resumeLocked lets p wait for the newest poll, which is of another receiver, or refuses it.
// A queued poll was admitted with the right password: it is as good as settled.
func (s *pollSlot) resumeLocked(p *poll) {
	if s.newest != s.holder || s.newest.settled {
		p.endLocked(ErrOtherReceiver)
		return
	}
	if s.resuming != nil && s.resuming.receiver.ID == p.receiver.ID {
		s.resuming.endLocked(ErrSuperseded)
	} else if s.resuming != nil {
		s.resuming.endLocked(ErrOtherReceiver)
	}
	p.ready = make(chan struct{})
	s.resuming = p
}

// endLocked ends all polls of the slot.
func (s *pollSlot) endLocked(reason error) {
	s.newest.endLocked(reason) // older ones have been ended for it
	if s.resuming != nil {
		s.resuming.endLocked(reason)
	}
}

// settle notes that the store has recorded the receiver of p, which is the holder, and refuses
// a poll of another receiver that resumes. It returns why p must end, or nil.
func (ps *polls) settle(p *poll) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p.settled = true
	if slot := ps.slots[p.name]; slot.resuming != nil {
		slot.resuming.endLocked(ErrOtherReceiver)
		slot.resuming = nil
		ps.slots[p.name] = slot
	}
	return p.endReason
}

// waitContext returns a context for p to wait in. It ends with ctx, or when the
// poll must end, with the reason as its cause.
func (ps *polls) waitContext(ctx context.Context, p *poll) (context.Context, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p.endReason != nil {
		return nil, p.endReason
	}
	if p.ctx == nil {
		p.ctx, p.cancel = context.WithCancelCause(ctx)
	}
	return p.ctx, nil
}

// endReason returns why p must end, or nil.
func (ps *polls) endReason(p *poll) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return p.endReason
}

// leave ends p and makes the newest poll the holder. A second call does nothing.
func (ps *polls) leave(p *poll) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p.cancel != nil {
		p.cancel(nil)
	}
	slot := ps.slots[p.name]
	switch {
	case slot.resuming == p:
		slot.resuming = nil
	case slot.holder == p && slot.newest == p && slot.resuming == nil:
		delete(ps.slots, p.name)
		return
	case slot.holder == p && slot.newest == p:
		slot = pollSlot{holder: slot.resuming, newest: slot.resuming}
		close(slot.holder.ready)
	case slot.holder == p:
		slot.holder = slot.newest
		close(slot.holder.ready)
	case slot.newest == p:
		slot.newest = slot.holder
	default:
		return // superseded before it was the holder, or left already: the name can have no slot
	}
	ps.slots[p.name] = slot
}

// endAll ends all polls, and all later ones.
func (ps *polls) endAll() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.ended = true
	for _, slot := range ps.slots {
		slot.endLocked(ErrStopping)
	}
}
