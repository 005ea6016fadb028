package inbox

import (
	"context"
	"sync"
)

// polls gives the GETs of one mailbox turns. The newest wins: it ends those
// that wait, and itself waits for one that is just being answered, so that no
// message is handed out twice while it is not known whether it arrived.
type polls struct {
	mu    sync.Mutex
	slots map[string]pollSlot
	ended bool
}

// pollSlot is the state of one mailbox that is being polled. The holder alone may
// talk to the store; the newest is the holder or waits to be.
type pollSlot struct {
	holder, newest *poll
}

// poll is one GET under way. The lock of its polls guards it. Most polls find
// a message at once: only one that waits has a context of its own.
type poll struct {
	name      string
	endReason error           // why it has to end
	ctx       context.Context // to wait in; nil until it waits
	cancel    context.CancelCauseFunc
	ready     chan struct{} // closed when it is this poll's turn; nil: from the start
}

// endLocked makes p end for that reason, unless it has one already.
func (p *poll) endLocked(reason error) {
	if p.endReason != nil {
		return
	}
	p.endReason = reason
	if p.cancel != nil {
		p.cancel(reason)
	}
}

// enter supersedes older polls of that name and waits for its turn. Whatever
// it returns, the poll has to leave.
func (ps *polls) enter(ctx context.Context, name string) (*poll, error) {
	p := &poll{name: name}
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

// tryEnter returns a poll that has its turn, unless there is another of that name.
func (ps *polls) tryEnter(name string) *poll {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.ended || ps.slots[name].holder != nil {
		return nil
	}
	p := &poll{name: name}
	ps.slots[name] = pollSlot{holder: p, newest: p}
	return p
}

// add lines p up; it has a turn to wait for if another poll holds that. The
// error is why it has to end already.
func (ps *polls) add(p *poll) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.ended {
		p.endReason = ErrStopping
	}
	slot := ps.slots[p.name]
	if slot.holder == nil {
		slot.holder = p
	} else {
		slot.newest.endLocked(ErrSuperseded)
		p.ready = make(chan struct{})
	}
	slot.newest = p
	ps.slots[p.name] = slot
	return p.endReason
}

// hasPoll reports whether a poll of that name is under way.
func (ps *polls) hasPoll(name string) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.slots[name].holder != nil
}

// waitContext returns a context for p to wait in. It ends with ctx, or with why the
// poll has to, which is its cause then.
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

// endReason returns why p has to end, or nil.
func (ps *polls) endReason(p *poll) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return p.endReason
}

// leave ends p and hands its turn on. Leaving twice does no harm.
func (ps *polls) leave(p *poll) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p.cancel != nil {
		p.cancel(nil)
	}
	slot := ps.slots[p.name]
	switch {
	case slot.holder == p && slot.newest == p:
		delete(ps.slots, p.name)
		return
	case slot.holder == p:
		slot.holder = slot.newest
		close(slot.holder.ready)
	case slot.newest == p:
		slot.newest = slot.holder
	default:
		return // superseded before its turn, or left already: the name may have no turn any more
	}
	ps.slots[p.name] = slot
}

// endAll ends all polls, now and from now on.
func (ps *polls) endAll() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.ended = true
	for _, slot := range ps.slots {
		slot.newest.endLocked(ErrStopping)
	}
}
