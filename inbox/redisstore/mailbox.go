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

// Modes of a peek: how it affects the timeout of the claim; see mailbox.lua.
const (
	peekFirst = "first" // the first peek of a Next: restarts the timeout
	peekAgain = "again" // a later one: restarts it only if there is a message
	peekLast  = peekFirst
	touchOnly = "touch" // restarts the timeout without looking for a message
)

// currentSession returns the session, or ErrStoreUnavailable while disconnected.
func (s *Store) currentSession() (*session, error) {
	sess := s.session.Load()
	if sess == nil {
		return nil, fmt.Errorf("%w: %s", inbox.ErrStoreUnavailable, s.address)
	}
	return sess, nil
}

// payerOf returns p with hashed IDs.
func (c *codec) payerOf(p inbox.Payer) payer {
	return payer{c.payerID(p.Client), c.payerID(p.Network)}
}

// openRequest is a prepared Open.
type openRequest struct {
	name        string
	location    location
	args        []string
	reservation reservation
	quotaErr    error // the limit that forbids a new mailbox; irrelevant if one exists
}

// prepareOpen builds the arguments of an Open and reserves the mailbox that it can
// create.
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

// parseClaim parses the part of a reply that open produced, alone or combined with
// another step, and returns the rest.
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

// isLimit reports whether err is a limit that a sweep of expired mailboxes can lift.
func isLimit(err error) bool {
	return errors.Is(err, inbox.ErrTooManyInboxes) || errors.Is(err, inbox.ErrPayerFull) || errors.Is(err, inbox.ErrStoreFull)
}

// retryAfterReclaim calls f. If f hits a limit, it sweeps expired mailboxes and calls f
// once more.
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

// putRequest is a prepared Put.
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

// putArgs returns the arguments of a Put. With a wait, the node is registered for that
// time for a wake-up when the name is claimed.
func (s *Store) putArgs(req *putRequest, wait time.Duration) []string {
	return []string{
		req.location.tag, strconv.Itoa(s.limits.Capacity), strconv.FormatInt(req.size, 10),
		req.payer.client, req.payer.network, strconv.FormatInt(wait.Milliseconds(), 10), req.record,
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

func (s *Store) put(
	ctx context.Context, sess *session, req *putRequest, wait time.Duration, reserved reservation,
) error {
	answer, err := s.do(ctx, sess, "put", []location{req.location}, reserved, s.putArgs(req, wait)...)
	if err != nil {
		return err
	}
	return putStatus(answer[0])
}

// putPending puts the message as soon as the name is claimed. Each attempt registers
// this node for a wake-up; the registration expires one second after the deadline.
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

// wait returns nil when w is woken or maxWait has passed.
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
	w := s.waiters.add(loc.tag, false) // before the first peek, so that no wake-up is missed
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
			return m, inbox.ErrClaimEnded // the old store's claim; the new one has another secret
		}
		if err == errUnreplicated || err == errTooManyWaits {
			// The Put of the message that could not be returned removed this poll's
			// registration and sends no further wake-up: register again, retry later.
			_, _, _ = s.peek(ctx, sess, loc, c, 0, touchOnly, w.seq)
			err, left = inbox.ErrEmpty, peekAgainAfter
		} else if errors.Is(err, inbox.ErrStoreUnavailable) {
			// Hold the poll; wakeAll wakes it after the outage.
			err, left = inbox.ErrEmpty, wait
		}
	}
	return m, err
}

// lastPeek ends a wait. An unavailable store counts as an empty mailbox; the next poll
// reports the outage.
func (s *Store) lastPeek(ctx context.Context, sess *session, loc location, c inbox.Claim) (inbox.Message, error) {
	m, _, err := s.peek(ctx, sess, loc, c, 0, peekLast, 0)
	if errors.Is(err, inbox.ErrStoreUnavailable) {
		err = inbox.ErrEmpty
	}
	return m, err
}

// touch restarts the timeout of the claim after a canceled or superseded wait.
func (s *Store) touch(ctx context.Context, sess *session, loc location, c inbox.Claim) {
	_, _, _ = s.peek(context.WithoutCancel(ctx), sess, loc, c, 0, touchOnly, 0)
}

// peek returns the oldest message of a mailbox and skips damaged ones. With ErrEmpty it
// also returns the remaining lifetime of the claim. A seq other than 0 registers that
// waiter for a wake-up.
func (s *Store) peek(
	ctx context.Context, sess *session, loc location, c inbox.Claim, ack uint64, mode string, seq uint64,
) (inbox.Message, time.Duration, error) {
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

// dropDamaged logs the loss of a message and returns the acknowledgement that removes
// it. Otherwise it would block all later messages.
func (s *Store) dropDamaged(m inbox.Message) (ack uint64) {
	s.log.Error("dropped a message: damaged or encrypted with another key", "store", s.address)
	return m.ID
}

func (c *codec) parsePeek(
	loc location, answer []rueidis.RedisMessage,
) (m inbox.Message, left time.Duration, err error) {
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

// Close implements [inbox.Store]: it ends the claim, not the store; see
// [Store.Shutdown].
func (s *Store) Close(ctx context.Context, c inbox.Claim) error {
	return s.claimStep(ctx, "close", c)
}

// claimStep executes a step that requires a claim.
func (s *Store) claimStep(ctx context.Context, op string, c inbox.Claim, args ...string) error {
	sess, err := s.currentSession()
	if err != nil {
		return err
	}
	loc := sess.locate(c.Name)
	args = append([]string{loc.tag, strconv.FormatUint(c.Epoch, 10)}, args...)
	answer, err := s.do(ctx, sess, op, []location{loc}, nil, args...)
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
