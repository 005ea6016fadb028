package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"inbox/inbox"

	"github.com/redis/rueidis"
)

// How a look for messages treats the claim, in mailbox.lua.
const (
	peekFirst = "first" // of a Next: it keeps the claim alive
	peekAgain = "again" // in the midst of one: only a message does
	peekLast  = peekFirst
	touchOnly = "touch"
)

// currentSession returns the store, unless none was found yet.
func (s *Store) currentSession() (*session, error) {
	sess := s.session.Load()
	if sess == nil {
		return nil, fmt.Errorf("%w: %s", inbox.ErrStoreUnavailable, s.address)
	}
	return sess, nil
}

// payer is p as the store sees it.
func (c *codec) payerOf(p inbox.Payer) payer {
	return payer{c.payerID(p.Client), c.payerID(p.Network)}
}

// openRequest is an Open, prepared.
type openRequest struct {
	name        string
	location    location
	args        []string
	reservation reservation
	quotaErr    error // why the payer may not make a mailbox, if one is needed
}

// prepareOpen says what an Open sends, and pays for the mailbox it may make.
func (s *Store) prepareOpen(sess *session, name string, key inbox.Key, p *inbox.Payer) openRequest {
	o := openRequest{name: name, location: sess.locate(name)}
	mayCreate, owner := "0", payer{}
	if p != nil {
		owner = sess.payerOf(*p)
		if o.reservation, o.quotaErr = s.ledger.reserveInbox(owner); o.quotaErr == nil {
			mayCreate = "1"
		}
	}
	o.args = []string{o.location.tag, sess.passwordHash(name, key), mayCreate, owner.client, owner.network}
	return o
}

// parseClaim reads the beginning of what open, alone or with another step, answered.
func (o *openRequest) parseClaim(answer []rueidis.RedisMessage) (c inbox.Claim, rest []rueidis.RedisMessage, err error) {
	status, err := answer[0].ToString()
	switch {
	case err != nil:
		return c, nil, errUnexpectedReply
	case status == "wrong":
		return c, nil, inbox.ErrWrongKey
	case status == "none" && o.quotaErr != nil:
		return c, nil, o.quotaErr
	case status == "none":
		return c, nil, inbox.ErrNoInbox
	case status != "ok" || len(answer) < 3:
		return c, nil, errUnexpectedReply
	}
	epoch, err := parseID(answer[1])
	if err != nil {
		return c, nil, err
	}
	created, err := answer[2].AsInt64()
	if err != nil {
		return c, nil, errUnexpectedReply
	}
	return inbox.Claim{Name: o.name, Epoch: epoch, Created: created == 1}, answer[3:], nil
}

func parseID(m rueidis.RedisMessage) (uint64, error) {
	text, err := m.ToString()
	if err != nil {
		return 0, errUnexpectedReply
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, errUnexpectedReply
	}
	return n, nil
}

// isLimit is whether err may end when expired mailboxes are swept.
func isLimit(err error) bool {
	return errors.Is(err, inbox.ErrTooManyInboxes) || errors.Is(err, inbox.ErrPayerFull) || errors.Is(err, inbox.ErrStoreFull)
}

// retryAfterReclaim calls f, and once more when it met a limit that sweeping, or the step
// itself, may have lifted.
func (s *Store) retryAfterReclaim(ctx context.Context, f func() error) error {
	err := f()
	if isLimit(err) {
		s.reclaim(ctx)
		err = f()
	}
	return err
}

// Open implements [inbox.Store].
func (s *Store) Open(ctx context.Context, name string, key inbox.Key, p *inbox.Payer) (c inbox.Claim, err error) {
	sess, err := s.currentSession()
	if err != nil {
		return c, err
	}
	err = s.retryAfterReclaim(ctx, func() error {
		o := s.prepareOpen(sess, name, key, p)
		answer, err := s.do(ctx, sess, "open", []location{o.location}, o.reservation, o.args...)
		if err == nil {
			c, _, err = o.parseClaim(answer)
		}
		return err
	})
	return c, err
}

// putRequest is a Put, prepared.
type putRequest struct {
	location location
	size     int64
	payer    payer
	record   string
}

func (s *Store) newPutRequest(sess *session, to string, m *inbox.Message) putRequest {
	loc := sess.locate(to)
	size := int64(len(m.Body)+len(m.From)+len(m.ContentType)) + messageOverhead
	return putRequest{loc, size, sess.payerOf(m.Payer), sess.seal(loc.tag, m)}
}

// args are what a Put sends; knock is how long it goes on to wait.
func (s *Store) putArgs(req *putRequest, wait time.Duration) []string {
	return []string{
		req.location.tag, strconv.Itoa(s.limits.Capacity), strconv.FormatInt(req.size, 10), req.payer.client, req.payer.network,
		strconv.FormatInt(wait.Milliseconds(), 10), req.record,
	}
}

func putStatus(m rueidis.RedisMessage) error {
	switch status, err := m.ToString(); {
	case err != nil:
		return errUnexpectedReply
	case status == "ok":
		return nil
	case status == "none":
		return inbox.ErrNoInbox
	case status == "full":
		return inbox.ErrInboxFull
	}
	return errUnexpectedReply
}

// Put implements [inbox.Store].
func (s *Store) Put(ctx context.Context, to string, m inbox.Message, wait time.Duration) error {
	sess, err := s.currentSession()
	if err != nil {
		return err
	}
	req := s.newPutRequest(sess, to, &m)
	return s.retryAfterReclaim(ctx, func() error {
		reserved, err := s.ledger.reserveBytes(req.payer, req.size)
		if err != nil {
			return err
		}
		if wait > 0 {
			defer s.ledger.release(reserved)
			return s.putPending(ctx, sess, &req, wait)
		}
		return s.put(ctx, sess, &req, 0, reserved)
	})
}

func (s *Store) put(ctx context.Context, sess *session, req *putRequest, wait time.Duration, reserved reservation) error {
	answer, err := s.do(ctx, sess, "put", []location{req.location}, reserved, s.putArgs(req, wait)...)
	if err != nil {
		return err
	}
	return putStatus(answer[0])
}

// putPending puts as soon as somebody claims the name. Others are told of the
// knocks only for as long as this one lasts.
func (s *Store) putPending(ctx context.Context, sess *session, req *putRequest, wait time.Duration) error {
	w := s.waiters.add(req.location.tag, true)
	defer s.waiters.remove(w)
	deadline := time.Now().Add(wait)
	for remaining := wait; remaining > 0; remaining = time.Until(deadline) {
		err := s.put(ctx, sess, req, remaining+time.Second, nil)
		if err != inbox.ErrNoInbox {
			return err
		}
		if err := w.wait(ctx, min(time.Until(deadline), sess.recheckEvery)); err != nil {
			return err
		}
	}
	return s.put(ctx, sess, req, 0, nil)
}

// wait returns nil when w was woken or the time is over.
func (w *waiter) wait(ctx context.Context, maxWait time.Duration) error {
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case <-w.woken:
	case <-timer.C:
	case <-w.superseded:
		return inbox.ErrSuperseded
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// Next implements [inbox.Store].
func (s *Store) Next(ctx context.Context, c inbox.Claim, ack uint64, wait time.Duration) (inbox.Message, error) {
	sess, err := s.currentSession()
	if err != nil {
		return inbox.Message{}, err
	}
	loc := sess.locate(c.Name)
	if wait <= 0 {
		m, _, err := s.peek(ctx, sess, loc, c, ack, peekFirst, 0)
		return m, err
	}
	w := s.waiters.add(loc.tag, false) // before the first look: nothing may come in between
	defer s.waiters.remove(w)
	deadline := time.Now().Add(wait)
	m, left, err := s.peek(ctx, sess, loc, c, ack, peekFirst, w.seq)
	for err == inbox.ErrEmpty {
		if err := w.wait(ctx, min(time.Until(deadline), left, sess.recheckEvery)); err != nil {
			s.touch(ctx, sess, loc, c)
			return m, err
		}
		if time.Until(deadline) <= 0 {
			return s.lastPeek(ctx, sess, loc, c)
		}
		m, left, err = s.peek(ctx, sess, loc, c, 0, peekAgain, w.seq)
		if now := s.session.Load(); now != nil && now != sess {
			return m, inbox.ErrClaimEnded // of a store that was emptied
		}
		if err == errUnreplicated || err == errTooManyWaits {
			// Nobody wakes it for a message that it saw, nor is it the store's newest
			// poll any more: the message's sender has ended that.
			_, _, _ = s.peek(ctx, sess, loc, c, 0, touchOnly, w.seq)
			err, left = inbox.ErrEmpty, peekAgainAfter
		} else if errors.Is(err, inbox.ErrStoreUnavailable) {
			// The poll is held: what comes wakes it when the store is back.
			err, left = inbox.ErrEmpty, wait
		}
	}
	return m, err
}

// lastPeek ends a wait. Whether the store is away then, the next poll tells.
func (s *Store) lastPeek(ctx context.Context, sess *session, loc location, c inbox.Claim) (inbox.Message, error) {
	m, _, err := s.peek(ctx, sess, loc, c, 0, peekLast, 0)
	if errors.Is(err, inbox.ErrStoreUnavailable) {
		err = inbox.ErrEmpty
	}
	return m, err
}

// touch restarts the timeout after a wait that was given up.
func (s *Store) touch(ctx context.Context, sess *session, loc location, c inbox.Claim) {
	_, _, _ = s.peek(context.WithoutCancel(ctx), sess, loc, c, 0, touchOnly, 0)
}

// peek is one look into a mailbox, past what is damaged there. With ErrEmpty comes how long the claim still
// lives. A seq that is not 0 is told of what comes later.
func (s *Store) peek(ctx context.Context, sess *session, loc location, c inbox.Claim, ack uint64, mode string, seq uint64) (inbox.Message, time.Duration, error) {
	for {
		answer, err := s.do(ctx, sess, "next", []location{loc}, nil, loc.tag, strconv.FormatUint(c.Epoch, 10),
			strconv.FormatUint(ack, 10), mode, strconv.FormatUint(seq, 10), strconv.FormatInt(s.maxRecordBytes, 10))
		if err != nil {
			return inbox.Message{}, 0, err
		}
		m, left, err := sess.parsePeek(loc, answer)
		if err != errDamaged {
			return m, left, err
		}
		ack = s.dropDamaged(m)
	}
}

// dropDamaged says that a message is lost, and returns what forgets it: it would
// keep back all that came after it.
func (s *Store) dropDamaged(m inbox.Message) (ack uint64) {
	s.log.Error("dropped a message that is damaged, or that another key sealed", "store", s.address)
	return m.ID
}

func (c *codec) parsePeek(loc location, answer []rueidis.RedisMessage) (m inbox.Message, left time.Duration, err error) {
	status, err := answer[0].ToString()
	switch {
	case err != nil:
	case status == "over":
		return m, 0, inbox.ErrClaimEnded
	case status == "empty" && len(answer) == 2:
		ms, err := answer[1].AsInt64()
		if err != nil {
			return m, 0, errUnexpectedReply
		}
		return m, time.Duration(ms+1) * time.Millisecond, inbox.ErrEmpty
	case status == "ok" && len(answer) == 3:
		id, err := parseID(answer[1])
		if err != nil {
			return m, 0, err
		}
		record, err := answer[2].ToString()
		if err != nil {
			return m, 0, errUnexpectedReply
		}
		m, err = c.open(loc.tag, record)
		m.ID = id
		return m, 0, err
	}
	return m, 0, errUnexpectedReply
}

// Discard implements [inbox.Store].
func (s *Store) Discard(ctx context.Context, c inbox.Claim, upTo uint64) error {
	return s.claimStep(ctx, "discard", c, strconv.FormatUint(upTo, 10))
}

// Close implements [inbox.Store]. It does not end the store: [Store.Quit] does.
func (s *Store) Close(ctx context.Context, c inbox.Claim) error {
	return s.claimStep(ctx, "close", c)
}

// claimStep is a step on one's own mailbox.
func (s *Store) claimStep(ctx context.Context, op string, c inbox.Claim, args ...string) error {
	sess, err := s.currentSession()
	if err != nil {
		return err
	}
	loc := sess.locate(c.Name)
	answer, err := s.do(ctx, sess, op, []location{loc}, nil, append([]string{loc.tag, strconv.FormatUint(c.Epoch, 10)}, args...)...)
	if err != nil {
		return err
	}
	switch status, err := answer[0].ToString(); {
	case err == nil && status == "ok":
		return nil
	case err == nil && status == "over":
		return inbox.ErrClaimEnded
	}
	return errUnexpectedReply
}
