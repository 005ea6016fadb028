package peerjs

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"
	"time"

	"inbox/inbox"
	"inbox/inbox/quota"
	"inbox/internal/problem"
)

// verdict is the decision about an id that two clients want.
type verdict byte

const (
	taken   verdict = iota // the holder keeps it
	resumed                // the newcomer gets it, with what waits for it
	freed                  // the newcomer gets it, without that
	unknown                // the holder was not asked, or does not answer
)

// ownership is who has an id.
type ownership struct {
	token inbox.Key
	payer string    // empty: none
	lost  time.Time // when the connection ended; zero while it is not known to have
	left  bool      // by a close frame
}

// decide returns the verdict for a newcomer without asking the holder's connection: unknown, if that
// decides.
func (o ownership) decide(token inbox.Key, payer string, grace time.Duration) verdict {
	switch {
	case o.left, subtle.ConstantTimeCompare(o.token[:], token[:]) == 1:
		return resumed
	case o.lost.IsZero():
		return unknown
	case payer != "" && payer == o.payer, time.Since(o.lost) >= grace:
		return freed
	}
	return taken
}

// maxContests bounds how often a newcomer starts again because an id changed its holder.
const maxContests = 64

// acquire gives a session its id. If it cannot have it, the reason is the frame that says so, or
// the error refuses the request.
func (h *Handler) acquire(r *http.Request, s *session) (reason []byte, err error) {
	acquired := false
	defer func() { // also after a panic
		if !acquired {
			h.remove(s)
			s.becomeReady() // for newcomers that wait
		}
	}()
	by := time.Now().Add(h.timing.store)
	for contests := 0; contests < maxContests; {
		err = h.tryAcquire(r, s)
		if errors.Is(err, errAgain) {
			contests++
		} else if !errors.Is(err, inbox.ErrStoreUnavailable) || !sleepUntil(r.Context(), by) {
			break
		}
		h.remove(s)
	}
	if acquired = err == nil; acquired {
		return nil, nil
	}
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

// sleepUntil waits for the next attempt, and reports whether it is before a time.
func sleepUntil(ctx context.Context, by time.Time) bool {
	if time.Now().Add(putRetry).After(by) {
		return false
	}
	select {
	case <-time.After(putRetry):
		return true
	case <-ctx.Done():
		return false
	}
}

var (
	errAgain       = errors.New("the id has another holder now")
	errUnavailable = problem.New(http.StatusServiceUnavailable, "store-unavailable", "The server cannot reach its store",
		"Try again in a moment.")
)

// tryAcquire is one attempt of acquire. It returns errAgain if another one is needed.
func (h *Handler) tryAcquire(r *http.Request, s *session) error {
	if holder := h.enter(s); holder != nil {
		return h.contest(r, s, holder)
	}
	return h.acquireFree(r, s)
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
		v, err = h.guess(r, s.name, func() (verdict, error) { return holder.judge(r.Context(), s.token, s.payer.Client) })
		if err != nil {
			return err
		}
	}
	v = holder.promise(v, s.token)
	switch {
	case v == taken:
		return errIDTaken
	case !h.replace(holder, s):
		return errAgain
	}
	s.inherit(holder)
	if v == freed {
		if err := h.skipMail(r.Context(), s); err != nil {
			return err
		}
	}
	return h.begin(r.Context(), s)
}

// guess asks for a verdict about a token that can be wrong. As many are asked for at once as the
// guard allows if all of them are.
func (h *Handler) guess(r *http.Request, name string, ask func() (verdict, error)) (verdict, error) {
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
	return h.begin(r.Context(), s)
}

// begin makes a session the one that reads its mailbox. It fails with errAgain if another node was
// faster.
func (h *Handler) begin(ctx context.Context, s *session) error {
	err := h.record(ctx, s, s.claim.Created)
	if errors.Is(err, inbox.ErrOtherReceiver) {
		return errAgain
	}
	if err != nil {
		return err
	}
	s.holdClaim()
	return h.watch(s)
}

// record leaves the id of the receiver in a mailbox of several nodes: its token is known there even
// after a crash of this one. If the session resumes, it fails with ErrOtherReceiver if that of
// another token is there.
func (h *Handler) record(ctx context.Context, s *session, resumes bool) error {
	if !h.Shared || s.claim.Receiver == s.receiver {
		return nil
	}
	name := s.claim.Name
	c, _, err := h.Store.OpenNext(ctx, name, h.keyOf(name), s.acked, inbox.Client{ID: s.receiver, Resume: resumes})
	switch {
	case errors.Is(err, inbox.ErrNoInbox):
		return errAgain
	case err != nil && !errors.Is(err, inbox.ErrEmpty):
		return err
	case c.Epoch != s.claim.Epoch:
		return errAgain
	}
	s.setClaim(c)
	return nil
}

// contestClaim decides between a newcomer and a claim that no session of this process has: one of
// another node, or of an earlier process. The token that was there last needs no decision.
func (h *Handler) contestClaim(r *http.Request, s *session) error {
	if h.Shared {
		if err := h.record(r.Context(), s, true); !errors.Is(err, inbox.ErrOtherReceiver) {
			return err
		}
	}
	v, err := h.guess(r, s.name, func() (verdict, error) { return h.judgeClaim(r.Context(), s) })
	switch {
	case err != nil:
		return err
	case v == taken:
		return errIDTaken
	case v == freed:
		return h.skipMail(r.Context(), s)
	}
	return nil
}

// skipMail moves a session behind what waits for its id, which is not for it.
func (h *Handler) skipMail(ctx context.Context, s *session) error {
	unread, last, err := h.unread(ctx, s.claim, s.acked)
	if errors.Is(err, inbox.ErrClaimEnded) {
		return errAgain
	}
	if err != nil {
		return err
	}
	h.expireAll(ctx, s.claim, unread)
	s.acked, s.written, s.discard = last, last, last > 0
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
	epoch := s.claim.Epoch
	stop, err := h.Store.Watch(s.claim, func(end error) { s.notify(epoch, end) })
	switch {
	case err == nil:
		s.setWatch(stop)
		return nil
	case errors.Is(err, inbox.ErrClaimEnded), errors.Is(err, inbox.ErrSuperseded):
		err = errAgain
	}
	return err
}

// fail is called for a session that has its id but got no connection.
func (h *Handler) fail(s *session) {
	s.becomeReady()
	h.lose(s)
}

// lose keeps the id of a session whose line is lost for a while. While the server stops, the claim
// stays for the next process.
func (h *Handler) lose(s *session) { h.keep(s, h.timing.grace, false) }

// vacate keeps the mailbox of a client that has left, for everyone who wants the id: the client can
// have left in order to come back, and what is sent meanwhile waits as for an absent id.
func (h *Handler) vacate(s *session) { h.keep(s, h.timing.absent, true) }

func (h *Handler) keep(s *session, d time.Duration, left bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopping.Load() || h.holders[s.id] != s {
		s.leaveClaim()
		return
	}
	s.setLost(time.AfterFunc(d, func() { h.evict(s) }), left)
}

// evict frees the id of a session whose time is over.
func (h *Handler) evict(s *session) {
	owner := s.owner()
	closing := &session{ // newcomers wait for it: the claim that it ends must not be theirs
		h: h, id: s.id, name: s.name, token: s.token, payer: s.payer, lost: owner.lost, hasLeft: owner.left, ready: make(chan struct{}),
	}
	if h.stopping.Load() || !h.replace(s, closing) {
		return
	}
	unread, err := h.release(s)
	h.remove(closing)
	closing.becomeReady()
	h.logFailure(err)
	switch {
	case err != nil || len(unread) == 0:
	case owner.left:
		h.forward(s, unread)
	default:
		h.expireAll(h.ctx, s.claim, unread)
	}
}

// release ends the claim of a session, and returns what was not acknowledged.
func (h *Handler) release(s *session) (unread []inbox.Message, err error) {
	s.detach()
	ctx, cancel := context.WithTimeout(h.ctx, releaseTimeout)
	defer cancel()
	acked, _ := s.progress()
	if unread, _, err = h.unread(ctx, s.claim, acked); err == nil {
		err = h.Store.Close(ctx, s.claim)
	}
	return unread, err
}

// releaseTimeout bounds the steps that free an id.
const releaseTimeout = 10 * time.Second

func (h *Handler) logFailure(err error) {
	for _, known := range [...]error{nil, inbox.ErrClaimEnded, inbox.ErrStopping, inbox.ErrStoreUnavailable, context.Canceled} {
		if errors.Is(err, known) {
			return
		}
	}
	h.Logger.Error("free an id of PeerJS", "err", err)
}

// unread returns the messages above an ID that their sender has to know the fate of, and the ID of
// the last message.
func (h *Handler) unread(ctx context.Context, c inbox.Claim, after uint64) (unread []inbox.Message, last uint64, err error) {
	last = after
	err = h.eachMessage(ctx, c, after, func(m inbox.Message) {
		last = m.ID
		if typeOf(m.Body).waits() {
			unread = append(unread, m)
		}
	})
	return unread, last, err
}

// expireAll tells each sender of messages once that the peer is gone.
func (h *Handler) expireAll(ctx context.Context, c inbox.Claim, unread []inbox.Message) {
	id, told := strings.TrimPrefix(c.Name, mailbox("")), map[string]bool{}
	for _, m := range unread {
		if told[m.From] {
			continue
		}
		told[m.From] = true
		h.answers[expired].Add(1)
		body := appendFrame(nil, expire, string(quote(id)), quote(m.From), nil)
		_, _ = h.Store.Put(ctx, mailbox(m.From), inbox.Message{From: id, Body: body, Payer: m.Payer}, 0) // it can be gone too
	}
}

// forward sends messages again, in their order, as soon as their recipient is there. What has waited
// in vain expires.
func (h *Handler) forward(s *session, unread []inbox.Message) {
	var held charge
	usage := quota.Usage{Inboxes: 1}
	for _, m := range unread {
		usage.Bytes += int64(len(m.Body))
	}
	if h.waiting.take(&held, s.payer, usage) {
		defer h.waiting.giveAll(&held)
		for len(unread) > 0 {
			m := unread[0]
			m.ID = 0
			if h.putPending(h.ctx, s.claim.Name, m) != nil {
				break
			}
			unread = unread[1:]
		}
	}
	h.expireAll(h.ctx, s.claim, unread)
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
