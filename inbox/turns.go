package inbox

import (
	"context"
	"sync"
)

// turns orders the receivers of each mailbox in this process. The newest one has the turn and
// supersedes the older one, whatever their transports are. It waits only for a receiver that is
// opening the mailbox, so that the store learns of both in this order, and for a plain long poll
// that is being answered, so that no message is written twice while it is not known whether the
// first write arrived.
//
// A receiver that resumes supersedes one of its own client only. It is refused if another client
// has the turn, with the right password.
type turns struct {
	mu    sync.Mutex
	slots map[string]turnSlot
	ended bool
}

// turnSlot is the state of a mailbox that has a receiver. The newest one is the holder or waits to
// become it. While the holder is the newest and not admitted, a receiver of another client can be
// resuming: it waits until the holder is admitted, and is then refused, or leaves.
type turnSlot struct {
	holder, newest, resuming *receiver
}

// tryEnter gives rc the turn, unless there is another receiver of its mailbox.
func (t *turns) tryEnter(rc *receiver) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || t.slots[rc.name].holder != nil {
		return false
	}
	rc.state = opening
	t.slots[rc.name] = turnSlot{holder: rc, newest: rc}
	return true
}

// enter supersedes the older receivers of the mailbox and waits until rc has the turn or is over.
// The caller must let it leave, also after an error, which is that of ctx.
func (t *turns) enter(ctx context.Context, rc *receiver) error {
	ready := t.add(rc)
	if ready == nil {
		return nil
	}
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// add makes rc the newest receiver of its mailbox. The channel, if not nil, is closed when rc has
// the turn or is over.
func (t *turns) add(rc *receiver) (ready <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		rc.endLocked(ErrStopping)
		return nil
	}
	slot := t.slots[rc.name]
	switch {
	case slot.holder == nil:
		slot.holder, slot.newest = rc, rc
	case rc.client.Resume && slot.newest.client.ID != rc.client.ID:
		slot.resumeLocked(rc)
	default:
		slot.endLocked(ErrSuperseded)
		slot.newest, slot.resuming = rc, nil
		if !slot.holder.holdsTurnLocked() {
			slot.holder = rc
		}
	}
	t.slots[rc.name] = slot
	switch {
	case slot.holder == rc:
		rc.state = opening
	case rc.reason == nil:
		rc.ready = make(chan struct{})
	}
	return rc.ready
}

// resumeLocked lets rc wait for the newest receiver, which is of another client, or refuses it.
func (s *turnSlot) resumeLocked(rc *receiver) {
	if s.newest.admitted {
		rc.endLocked(ErrOtherReceiver)
		return
	}
	if s.resuming != nil && s.resuming.client.ID == rc.client.ID {
		s.resuming.endLocked(ErrSuperseded)
	} else if s.resuming != nil {
		s.resuming.endLocked(ErrOtherReceiver)
	}
	s.resuming = rc
}

// endLocked ends all receivers of the slot.
func (s *turnSlot) endLocked(reason error) {
	s.newest.endLocked(reason) // older ones have been ended for it
	if s.resuming != nil {
		s.resuming.endLocked(reason)
	}
}

// admit notes that the store has opened the mailbox for rc, which has the turn, and refuses a
// receiver of another client that resumes.
func (t *turns) admit(rc *receiver) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rc.admitted, rc.state = true, handingOut
	if slot := t.slots[rc.name]; slot.holder == rc && slot.resuming != nil {
		slot.resuming.endLocked(ErrOtherReceiver)
		slot.resuming = nil
		t.slots[rc.name] = slot
	}
}

// leaveLocked ends rc and gives the turn to the newest receiver. A second call does nothing.
func (t *turns) leaveLocked(rc *receiver) {
	rc.state = over
	rc.endLocked(context.Canceled)
	if rc.retry != nil {
		rc.retry.Stop()
	}
	slot := t.slots[rc.name]
	switch {
	case slot.resuming == rc:
		slot.resuming = nil
	case slot.holder == rc && slot.newest == rc && slot.resuming == nil:
		delete(t.slots, rc.name)
		return
	case slot.holder == rc && slot.newest == rc:
		slot = turnSlot{holder: slot.resuming, newest: slot.resuming}
		slot.holder.takeTurnLocked()
	case slot.holder == rc:
		slot.holder = slot.newest
		slot.holder.takeTurnLocked()
	case slot.newest == rc:
		slot.newest = slot.holder
	default:
		return // superseded, or left already: the name can have no slot
	}
	t.slots[rc.name] = slot
}

// acknowledged lets the receiver of a mailbox look for an acknowledgement in the store, if its
// window is full.
func (t *turns) acknowledged(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if rc := t.slots[name].holder; rc != nil && (rc.stalled || rc.state == handingOut) {
		rc.notifyLocked(nil)
	}
}

// endAll ends all receivers, and all later ones.
func (t *turns) endAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	for _, slot := range t.slots {
		slot.endLocked(ErrStopping)
	}
}
