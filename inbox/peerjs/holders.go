package peerjs

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"
	"time"

	"inbox/inbox"
	"inbox/internal/problem"
)

// verdict is the decision about an id that two clients want.
type verdict byte

const (
	taken   verdict = iota // the holder keeps it
	resumed                // the newcomer is the holder, and gets its mail
	freed                  // it was released, and can be claimed
	unknown                // nobody answers for it
)

// ownership is who has an id.
type ownership struct {
	token inbox.Key
	payer string // empty: none
	lost  time.Time
}

// decide returns the verdict for a newcomer without asking the holder's connection: unknown, if that
// decides. Lost is zero for a line that is not known to be lost.
func (o ownership) decide(token inbox.Key, payer string, grace time.Duration) verdict {
	switch {
	case subtle.ConstantTimeCompare(o.token[:], token[:]) == 1:
		return resumed
	case o.lost.IsZero():
		return unknown
	case payer != "" && payer == o.payer, time.Since(o.lost) >= grace:
		return freed
	}
	return taken
}

// maxContests bounds how often a newcomer starts again because an id changed its holder.
const maxContests = 8

// acquire gives a session its id. If it cannot have it, the reason is the frame that says so, or
// the error refuses the request.
func (h *Handler) acquire(r *http.Request, s *session) (reason []byte, err error) {
	for range maxContests {
		if err = h.tryAcquire(r, s); !errors.Is(err, errAgain) {
			break
		}
	}
	if err == nil {
		return nil, nil
	}
	s.becomeReady() // for newcomers that wait
	if errors.Is(err, errAgain) {
		err = errIDTaken
	}
	if reason = h.reasonOf(err); reason != nil {
		return reason, nil
	}
	if errors.Is(err, inbox.ErrStoreUnavailable) {
		err = errUnavailable
	} else if errors.Is(err, inbox.ErrStopping) {
		err = errStopping
	}
	return nil, err
}

var (
	errAgain       = errors.New("the id has another holder now")
	errUnavailable = problem.New(http.StatusServiceUnavailable, "store-unavailable", "The server cannot reach its store",
		"Try again in a moment.")
)

// tryAcquire is one attempt of acquire. It returns errAgain if another one is needed.
func (h *Handler) tryAcquire(r *http.Request, s *session) error {
	holder := h.enter(s)
	if holder != nil {
		return h.contest(r, s, holder)
	}
	err := h.acquireFree(r, s)
	if err != nil {
		h.remove(s)
	}
	return err
}

// isHolder reports whether a session has its id.
func (h *Handler) isHolder(s *session) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.holders[s.id] == s
}

// enter makes s the holder of its id, unless there is one, which it returns.
func (h *Handler) enter(s *session) (holder *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if holder = h.holders[s.id]; holder == nil {
		h.holders[s.id] = s
	}
	return holder
}

// replace makes s the holder in place of old, and reports whether old was it.
func (h *Handler) replace(old, s *session) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.holders[s.id] != old {
		return false
	}
	h.holders[s.id] = s
	return true
}

// remove removes a holder, and reports whether s was it.
func (h *Handler) remove(s *session) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.holders[s.id] != s {
		return false
	}
	delete(h.holders, s.id)
	return true
}

// contest decides between a newcomer and a holder of this process.
func (h *Handler) contest(r *http.Request, s, holder *session) error {
	if err := holder.awaitReady(r.Context()); err != nil {
		return err
	}
	v := holder.owner().decide(s.token, s.payer.Client, h.timing.grace)
	if v == taken || v == unknown {
		var err error
		v, err = h.guess(r, s.id, func() (verdict, error) { return holder.judge(r.Context(), s.token, s.payer.Client) })
		if err != nil {
			return err
		}
	}
	switch {
	case v == taken:
		return errIDTaken
	case !h.replace(holder, s):
		return errAgain
	case v == resumed:
		s.resume(holder)
		return h.watch(s)
	}
	h.evict(holder)
	err := h.acquireFree(r, s)
	if err != nil {
		h.remove(s)
	}
	return err
}

// guess asks for a verdict about a token that can be wrong. As many are asked for at once as the
// guard allows if all of them are.
func (h *Handler) guess(r *http.Request, id string, ask func() (verdict, error)) (verdict, error) {
	name := mailbox(id)
	reserved, err := h.Guard.Reserve(r, inbox.PasswordGuess, name)
	if err != nil {
		return taken, r.Context().Err()
	}
	if reserved {
		defer h.Guard.Release(r, inbox.PasswordGuess, name)
	}
	v, err := ask()
	if err == nil && v == taken || r.Context().Err() != nil {
		h.Guard.Record(r, inbox.PasswordGuess, name)
	}
	return v, err
}

// acquireFree claims the mailbox of a session that no other one of this process has.
func (h *Handler) acquireFree(r *http.Request, s *session) error {
	c, err := h.open(r, s)
	if err != nil {
		return err
	}
	if s.claim = c; !c.Created {
		if err := h.contestClaim(r, s); err != nil {
			return err
		}
	}
	return h.watch(s)
}

// contestClaim decides between a newcomer and a claim that no session of this process has: one of
// another node, or of an earlier process.
func (h *Handler) contestClaim(r *http.Request, s *session) error {
	v, err := h.guess(r, s.id, func() (verdict, error) { return h.judgeClaim(r.Context(), s) })
	switch {
	case err != nil:
		return err
	case v == taken:
		return errIDTaken
	case v == freed:
		if err := h.release(r.Context(), s.claim, 0); err != nil && !errors.Is(err, inbox.ErrClaimEnded) {
			return err
		}
		return errAgain
	}
	return nil
}

// judgeClaim returns the verdict about the owner that the mailbox names, if its process has
// stopped, or else that of the node that has the claim. One that does not answer has no connection.
func (h *Handler) judgeClaim(ctx context.Context, s *session) (verdict, error) {
	owner, known, err := h.recordedOwner(ctx, s.claim)
	if err != nil {
		return unknown, err
	}
	v := unknown
	if known {
		v = owner.decide(s.token, s.payer.Client, h.timing.grace)
	} else if h.Shared {
		v, err = h.nodes.ask(ctx, s)
	}
	if v == unknown {
		v = freed
	}
	return v, err
}

// watch registers a session for its messages. It fails with errAgain if it has lost its claim.
func (h *Handler) watch(s *session) error {
	stop, err := h.Store.Watch(s.claim, s.notify)
	switch {
	case err == nil:
		s.stopWatch = stop
		return nil
	case errors.Is(err, inbox.ErrClaimEnded), errors.Is(err, inbox.ErrSuperseded):
		err = errAgain
	}
	h.remove(s)
	return err
}

// fail is called for a session that has its id but got no connection.
func (h *Handler) fail(s *session) {
	s.becomeReady()
	h.lose(s)
}

// lose keeps the id of a session whose line is lost for a while. While the server stops, the claim
// stays for the next process.
func (h *Handler) lose(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopping.Load() || h.holders[s.id] != s {
		s.leaveClaim()
		return
	}
	s.setLost(time.AfterFunc(h.timing.grace, func() { h.evictLost(s) }))
}

// evictLost frees the id of a line that was lost and did not come back.
func (h *Handler) evictLost(s *session) {
	if !h.stopping.Load() && h.remove(s) {
		h.evict(s)
	}
}

// evict frees the id of a session that is no longer its holder.
func (h *Handler) evict(s *session) {
	s.detach()
	acked, _ := s.progress()
	h.releaseLater(s.claim, acked)
}

// releaseTimeout bounds the steps that free an id.
const releaseTimeout = 10 * time.Second

func (h *Handler) releaseLater(c inbox.Claim, after uint64) {
	ctx, cancel := context.WithTimeout(h.ctx, releaseTimeout)
	defer cancel()
	err := h.release(ctx, c, after)
	if err != nil && !errors.Is(err, inbox.ErrClaimEnded) && !errors.Is(err, inbox.ErrStopping) && !errors.Is(err, inbox.ErrStoreUnavailable) {
		h.Logger.Error("free an id of PeerJS", "err", err)
	}
}

// release frees an id. The senders of what was not received, which are the messages above after,
// learn that their peer is gone.
func (h *Handler) release(ctx context.Context, c inbox.Claim, after uint64) error {
	told := map[string]bool{}
	err := h.eachMessage(ctx, c, after, func(m inbox.Message) {
		if typeOf(m.Body).waits() && !told[m.From] {
			told[m.From] = true
			id := c.Name[len(mailbox("")):]
			body := appendFrame(nil, expire, quote(id), m.From, nil)
			_, _ = h.Store.Put(ctx, mailbox(m.From), inbox.Message{From: id, Body: body, Payer: m.Payer}, 0) // it can be gone too
		}
	})
	if err != nil {
		return err
	}
	return h.Store.Close(ctx, c)
}

// maxScanned bounds the messages of a mailbox that are looked at.
const maxScanned = 1024

// eachMessage calls a function with the messages of a mailbox.
func (h *Handler) eachMessage(ctx context.Context, c inbox.Claim, after uint64, do func(inbox.Message)) error {
	for range maxScanned {
		m, err := h.Store.Next(ctx, c, after)
		if errors.Is(err, inbox.ErrEmpty) {
			return nil
		}
		if err != nil {
			return err
		}
		do(m)
		after = m.ID
	}
	return nil
}
