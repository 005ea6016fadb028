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

// payerOf returns p with hashed IDs.
func (c *codec) payerOf(p inbox.Payer) payer {
	return payer{c.payerID(p.Client), c.payerID(p.Network)}
}

// openRequest is a prepared Open.
type openRequest struct {
	name         string
	location     location
	passwordHash string
	args         []string
	reservation  reservation
	quotaErr     error // the limit that forbids a new mailbox; irrelevant if one exists
}

// expectClaim makes the step fail with errOtherClaim if the claim is another one. It
// returns false if the node does not know a claim with that password.
func (o *openRequest) expectClaim(sess *session) bool {
	if sess.aead == nil {
		return true
	}
	known := sess.known.get(o.location.tag)
	if known.signed == "" || known.passwordHash != o.passwordHash {
		return false
	}
	o.args[len(o.args)-1] = string(known.signed)
	return true
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
	o.passwordHash = sess.passwordHash(name, key)
	token := signedToken("")
	if mayCreate == "1" {
		token = sess.newSignedToken(o.location.tag, o.passwordHash)
	}
	o.args = []string{o.location.tag, o.passwordHash, mayCreate, owner.client, owner.network, string(token), ""}
	return o
}

// parseClaim parses the part of a reply that open produced, alone or combined with
// another step, and returns the rest.
//
// A claim that no node made is ErrWrongKey: another user of the store made it.
func (s *Store) parseClaim(sess *session, o *openRequest, answer []rueidis.RedisMessage) (c inbox.Claim, rest []rueidis.RedisMessage, err error) {
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
	case status == "stale":
		return c, nil, errOtherClaim
	case status != "ok" || len(answer) < 4:
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
	signed, err := answer[3].ToString()
	if err != nil {
		return c, nil, errUnexpectedReply
	}
	token, ok := sess.verifyClaim(o.location.tag, verifiedClaim{signedToken(signed), o.passwordHash})
	if !ok {
		s.logForged()
		return c, nil, inbox.ErrWrongKey
	}
	return inbox.Claim{Name: o.name, Epoch: epoch, Token: token, Created: created == 1}, answer[4:], nil
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
			c, _, err = s.parseClaim(sess, &o, answer)
		}
		return err
	})
	return c, err
}

// Check implements [inbox.Store].
func (s *Store) Check(ctx context.Context, name string, key inbox.Key) (c inbox.Claim, err error) {
	sess, err := s.currentSession()
	if err != nil {
		return c, err
	}
	o := s.prepareOpen(sess, name, key, nil)
	answer, err := s.do(ctx, sess, "check", []location{o.location}, nil, o.args...)
	if err == nil {
		c, _, err = s.parseClaim(sess, &o, answer)
	}
	return c, err
}

// putRequest is a prepared Put.
type putRequest struct {
	message  *inbox.Message
	location location
	size     int64
	payer    payer
	token    signedToken // of the recipient's claim: "" if it is not known, "-" without encryption
	record   string      // sealed for that claim
}

func (s *Store) newPutRequest(sess *session, to string, m *inbox.Message) putRequest {
	loc := sess.locate(to)
	size := int64(len(m.Body)+len(m.From)+len(m.ContentType)) + messageOverhead
	req := putRequest{message: m, location: loc, size: size, payer: sess.payerOf(m.Payer)}
	if sess.aead == nil {
		req.token, req.record = "-", sess.seal(loc.tag, claimToken{}, m)
	} else {
		req.sealFor(sess, sess.known.get(loc.tag).signed)
	}
	return req
}

// sealFor seals the message for a claim. If that is not known, the store replies with it.
func (req *putRequest) sealFor(sess *session, signed signedToken) {
	req.token, req.record = signed, ""
	if signed != "" {
		req.record = sess.seal(req.location.tag, signed.token(), req.message)
	}
}

// putArgs returns the arguments of a Put. With a wait, the node is registered for that
// time for a wake-up when the name is claimed.
func (s *Store) putArgs(req *putRequest, wait time.Duration) []string {
	return []string{
		req.location.tag, strconv.Itoa(s.limits.Capacity), strconv.FormatInt(req.size, 10),
		req.payer.client, req.payer.network, strconv.FormatInt(wait.Milliseconds(), 10), string(req.token), req.record,
	}
}

// parsePut returns errOtherClaim after it has sealed the message for that claim. A
// mailbox whose claim no node made does not exist.
func (s *Store) parsePut(sess *session, req *putRequest, answer []rueidis.RedisMessage) (id uint64, err error) {
	switch status, err := answer[0].ToString(); {
	case err != nil:
	case status == "ok" && len(answer) == 2:
		return parseID(answer[1])
	case status == "none":
		return 0, inbox.ErrNoInbox
	case status == "full":
		return 0, inbox.ErrInboxFull
	case status == "claim" && len(answer) == 3:
		return 0, s.learnClaim(sess, req, answer[1], answer[2])
	}
	return 0, errUnexpectedReply
}

func (s *Store) learnClaim(sess *session, req *putRequest, signed, passwordHash rueidis.RedisMessage) error {
	token, err := signed.ToString()
	if err != nil {
		return errUnexpectedReply
	}
	hash, err := passwordHash.ToString()
	if err != nil {
		return errUnexpectedReply
	}
	if _, ok := sess.verifyClaim(req.location.tag, verifiedClaim{signedToken(token), hash}); !ok {
		s.logForged()
		return inbox.ErrNoInbox
	}
	req.sealFor(sess, signedToken(token))
	return errOtherClaim
}

// Put implements [inbox.Store].
func (s *Store) Put(ctx context.Context, to string, m inbox.Message, wait time.Duration) (id uint64, err error) {
	sess, err := s.currentSession()
	if err != nil {
		return 0, err
	}
	req := s.newPutRequest(sess, to, &m)
	err = s.retryAfterReclaim(ctx, func() error {
		reserved, err := s.ledger.reserveBytes(req.payer, req.size)
		if err != nil {
			return err
		}
		defer s.ledger.release(reserved)
		if wait > 0 {
			id, err = s.putPending(ctx, sess, &req, wait)
		} else {
			id, err = s.put(ctx, sess, &req, 0)
		}
		return err
	})
	return id, err
}

// maxPutTries bounds the steps of a Put to a mailbox whose claim changes meanwhile.
const maxPutTries = 4

// put takes a second step if the node does not know the recipient's claim.
func (s *Store) put(ctx context.Context, sess *session, req *putRequest, wait time.Duration) (id uint64, err error) {
	for range maxPutTries {
		answer, err := s.do(ctx, sess, "put", []location{req.location}, nil, s.putArgs(req, wait)...)
		if err != nil {
			return 0, err
		}
		if id, err = s.parsePut(sess, req, answer); err != errOtherClaim {
			return id, err
		}
	}
	return 0, fmt.Errorf("%w: the claim of the recipient keeps changing", inbox.ErrStoreUnavailable)
}

// putPending puts the message as soon as the name is claimed. Each attempt registers
// this node for a wake-up; the registration expires one second after the deadline.
func (s *Store) putPending(ctx context.Context, sess *session, req *putRequest, wait time.Duration) (uint64, error) {
	woken := make(chan struct{}, 1)
	w := s.watches.addPut(req.location, func(error) { signal(woken) })
	defer s.watches.remove(w)
	timer := time.NewTimer(0)
	defer timer.Stop()
	deadline := time.Now().Add(wait)
	for remaining := wait; remaining > 0; remaining = time.Until(deadline) {
		id, err := s.put(ctx, sess, req, remaining+time.Second)
		if err != inbox.ErrNoInbox {
			return id, err
		}
		timer.Reset(min(time.Until(deadline), sess.recheckEvery))
		select {
		case <-woken:
		case <-timer.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return s.put(ctx, sess, req, 0)
}

// Next implements [inbox.Store].
func (s *Store) Next(ctx context.Context, c inbox.Claim, after uint64) (inbox.Message, error) {
	sess, err := s.currentSession()
	if err != nil {
		return inbox.Message{}, err
	}
	return s.next(ctx, sess, sess.locate(c.Name), c, after, 0)
}

// next returns the oldest message above after. It drops damaged ones, which would
// otherwise come again and again: drop, and those that it finds.
func (s *Store) next(
	ctx context.Context, sess *session, loc location, c inbox.Claim, after, drop uint64,
) (inbox.Message, error) {
	for {
		answer, err := s.do(ctx, sess, "next", []location{loc}, nil, loc.tag, strconv.FormatUint(c.Epoch, 10),
			strconv.FormatUint(after, 10), strconv.FormatUint(drop, 10), strconv.FormatInt(s.maxRecordBytes, 10))
		if err != nil {
			return inbox.Message{}, err
		}
		m, err := sess.parseNext(loc, c.Token, answer)
		if err != errDamaged {
			return m, err
		}
		drop = s.logDamaged(m)
	}
}

// logDamaged logs the loss of a message and returns its ID.
func (s *Store) logDamaged(m inbox.Message) (id uint64) {
	s.log.Error("dropped a message: damaged or encrypted with another key", "store", s.address)
	return m.ID
}

// parseNext returns errDamaged with the ID of a message that it cannot read.
func (c *codec) parseNext(loc location, token claimToken, answer []rueidis.RedisMessage) (m inbox.Message, err error) {
	status, err := answer[0].ToString()
	switch {
	case err != nil:
	case status == "over":
		return m, inbox.ErrClaimEnded
	case status == "empty":
		return m, inbox.ErrEmpty
	case status == "other":
		return m, inbox.ErrOtherReceiver
	case status == "ok" && len(answer) == 3:
		id, err := parseID(answer[1])
		if err != nil {
			return m, err
		}
		record, err := answer[2].ToString()
		if err != nil {
			return m, errUnexpectedReply
		}
		m, err = c.open(loc.tag, token, record)
		m.ID = id
		return m, err
	}
	return m, errUnexpectedReply
}

// OpenPut implements [inbox.Store]. In a cluster it takes two steps, because the two
// mailboxes are seldom in the same slot. With a key of the nodes, each claim of the two
// that this node does not know yet takes one more.
func (s *Store) OpenPut(
	ctx context.Context, name string, key inbox.Key, to string, m inbox.Message,
) (c inbox.Claim, id uint64, err error) {
	sess, err := s.currentSession()
	if err != nil {
		return c, 0, err
	}
	if !sess.cluster {
		req := s.newPutRequest(sess, to, &m)
		err = s.retryAfterReclaim(ctx, func() error {
			c, id, err = s.openPut(ctx, sess, name, key, &req)
			return err
		})
		if err != errOtherClaim {
			return c, id, err
		}
	}
	if c, err = s.Open(ctx, name, key, nil); err == nil {
		id, err = s.Put(ctx, to, m, 0)
	}
	return c, id, err
}

// openPut is one attempt. If the quota of the payer is used up, it still checks the
// key, so that a wrong password is reported first. It returns errOtherClaim, and puts
// nothing, if the node does not know the sender's claim: the store alone must not decide
// that a message is from the owner of a name.
func (s *Store) openPut(
	ctx context.Context, sess *session, name string, key inbox.Key, req *putRequest,
) (c inbox.Claim, id uint64, err error) {
	reserved, quotaErr := s.ledger.reserveBytes(req.payer, req.size)
	if quotaErr != nil {
		if c, err = s.Open(ctx, name, key, nil); err == nil {
			err = quotaErr
		}
		return c, 0, err
	}
	defer s.ledger.release(reserved)
	o := s.prepareOpen(sess, name, key, nil)
	if !o.expectClaim(sess) {
		return c, 0, errOtherClaim
	}
	answer, err := s.do(ctx, sess, "open put", []location{o.location, req.location}, nil, append(o.args, s.putArgs(req, 0)...)...)
	if err != nil {
		return c, 0, err
	}
	c, rest, err := s.parseClaim(sess, &o, answer)
	if err != nil {
		return c, 0, err
	}
	if len(rest) == 0 {
		return c, 0, errUnexpectedReply
	}
	if id, err = s.parsePut(sess, req, rest); err == errOtherClaim {
		id, err = s.put(ctx, sess, req, 0)
	}
	return c, id, err
}

// OpenNext implements [inbox.Store].
func (s *Store) OpenNext(
	ctx context.Context, name string, key inbox.Key, ack uint64, r inbox.Client,
) (c inbox.Claim, m inbox.Message, err error) {
	sess, err := s.currentSession()
	if err != nil {
		return c, m, err
	}
	o := s.prepareOpen(sess, name, key, nil)
	answer, err := s.do(ctx, sess, "open next", []location{o.location}, nil,
		append(o.args, strconv.FormatUint(ack, 10), strconv.FormatInt(s.maxRecordBytes, 10),
			strconv.FormatUint(r.ID, 10), boolArg(r.Resume))...)
	if err != nil {
		return c, m, err
	}
	c, rest, err := s.parseClaim(sess, &o, answer)
	if err != nil {
		return c, m, err
	}
	if len(rest) == 0 {
		return c, m, errUnexpectedReply
	}
	c.Receiver = r.ID
	if m, err = sess.parseNext(o.location, c.Token, rest); err == errDamaged {
		m, err = s.next(ctx, sess, o.location, c, ack, s.logDamaged(m))
	}
	return c, m, err
}

// boolArg returns an argument of mailbox.lua.
func boolArg(on bool) string {
	if on {
		return "1"
	}
	return "0"
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
