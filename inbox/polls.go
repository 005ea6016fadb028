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
	turns map[string]turn
	ended bool
}

// turn is the state of one mailbox that is being polled. The holder alone may
// talk to the store; the newest is the holder or waits to be.
type turn struct {
	holder, newest *poll
}

// poll is one GET under way. The lock of its polls guards it. Most polls find
// a message at once: only one that waits has a context of its own.
type poll struct {
	name   string
	over   error           // why it has to end
	ctx    context.Context // to wait in; nil until it waits
	cancel context.CancelCauseFunc
	turn   chan struct{} // closed when it is this poll's turn; nil: from the start
}

// endLocked makes p end for that reason, unless it has one already.
func (p *poll) endLocked(why error) {
	if p.over != nil {
		return
	}
	p.over = why
	if p.cancel != nil {
		p.cancel(why)
	}
}

// enter supersedes older polls of that name and waits for its turn. Whatever
// it returns, the poll has to leave.
func (ps *polls) enter(ctx context.Context, name string) (*poll, error) {
	p := &poll{name: name}
	if err := ps.add(p); err != nil || p.turn == nil {
		return p, err
	}
	ctx, err := ps.wait(ctx, p)
	if err != nil {
		return p, err
	}
	select {
	case <-p.turn:
		return p, ps.over(p)
	case <-ctx.Done():
		return p, context.Cause(ctx)
	}
}

// first returns a poll that has its turn, unless there is another of that name.
func (ps *polls) first(name string) *poll {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.ended || ps.turns[name].holder != nil {
		return nil
	}
	p := &poll{name: name}
	ps.turns[name] = turn{holder: p, newest: p}
	return p
}

// add lines p up; it has a turn to wait for if another poll holds that. The
// error is why it has to end already.
func (ps *polls) add(p *poll) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.ended {
		p.over = ErrStopping
	}
	t := ps.turns[p.name]
	if t.holder == nil {
		t.holder = p
	} else {
		t.newest.endLocked(ErrSuperseded)
		p.turn = make(chan struct{})
	}
	t.newest = p
	ps.turns[p.name] = t
	return p.over
}

// polled reports whether a poll of that name is under way.
func (ps *polls) polled(name string) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.turns[name].holder != nil
}

// wait returns a context for p to wait in. It ends with ctx, or with why the
// poll has to, which is its cause then.
func (ps *polls) wait(ctx context.Context, p *poll) (context.Context, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p.over != nil {
		return nil, p.over
	}
	if p.ctx == nil {
		p.ctx, p.cancel = context.WithCancelCause(ctx)
	}
	return p.ctx, nil
}

// over returns why p has to end, or nil.
func (ps *polls) over(p *poll) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return p.over
}

// leave ends p and hands its turn on. Leaving twice does no harm.
func (ps *polls) leave(p *poll) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p.cancel != nil {
		p.cancel(nil)
	}
	t := ps.turns[p.name]
	switch {
	case t.holder == p && t.newest == p:
		delete(ps.turns, p.name)
		return
	case t.holder == p:
		t.holder = t.newest
		close(t.holder.turn)
	case t.newest == p:
		t.newest = t.holder
	default:
		return // superseded before its turn, or left already: the name may have no turn any more
	}
	ps.turns[p.name] = t
}

// end ends all polls, now and from now on.
func (ps *polls) end() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.ended = true
	for _, t := range ps.turns {
		t.newest.endLocked(ErrStopping)
	}
}
