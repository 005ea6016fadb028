package redisstore

import (
	"context"
	"strconv"

	"inbox/inbox"
)

// OpenPut implements [inbox.CombinedStore]. In a cluster it takes two steps, because
// the two mailboxes are seldom in the same slot.
func (s *Store) OpenPut(
	ctx context.Context, name string, key inbox.Key, to string, m inbox.Message,
) (c inbox.Claim, err error) {
	sess, err := s.currentSession()
	if err != nil {
		return c, err
	}
	if sess.cluster {
		if c, err = s.Open(ctx, name, key, nil); err == nil {
			err = s.Put(ctx, to, m, 0)
		}
		return c, err
	}
	req := s.newPutRequest(sess, to, &m)
	err = s.retryAfterReclaim(ctx, func() error {
		c, err = s.openPut(ctx, sess, name, key, &req)
		return err
	})
	return c, err
}

// openPut is one attempt. If the quota of the payer is used up, it still checks the
// key, so that a wrong password is reported first.
func (s *Store) openPut(
	ctx context.Context, sess *session, name string, key inbox.Key, req *putRequest,
) (c inbox.Claim, err error) {
	reserved, quotaErr := s.ledger.reserveBytes(req.payer, req.size)
	if quotaErr != nil {
		if c, err = s.Open(ctx, name, key, nil); err == nil {
			err = quotaErr
		}
		return c, err
	}
	o := s.prepareOpen(sess, name, key, nil)
	answer, err := s.do(ctx, sess, "open put", []location{o.location, req.location}, reserved,
		append(o.args, s.putArgs(req, 0)...)...)
	if err != nil {
		return c, err
	}
	c, rest, err := o.parseClaim(answer)
	if err != nil {
		return c, err
	}
	if len(rest) != 1 {
		return c, errUnexpectedReply
	}
	return c, putStatus(rest[0])
}

// OpenNext implements [inbox.CombinedStore].
func (s *Store) OpenNext(
	ctx context.Context, name string, key inbox.Key, ack uint64,
) (c inbox.Claim, m inbox.Message, err error) {
	sess, err := s.currentSession()
	if err != nil {
		return c, m, err
	}
	o := s.prepareOpen(sess, name, key, nil)
	args := append(o.args, strconv.FormatUint(ack, 10), strconv.FormatInt(s.maxRecordBytes, 10))
	answer, err := s.do(ctx, sess, "open next", []location{o.location}, nil, args...)
	if err != nil {
		return c, m, err
	}
	c, rest, err := o.parseClaim(answer)
	if err != nil {
		return c, m, err
	}
	if len(rest) == 0 {
		return c, m, errUnexpectedReply
	}
	if m, _, err = sess.parsePeek(o.location, rest); err == errDamaged {
		m, _, err = s.peek(ctx, sess, o.location, c, s.dropDamaged(m), peekFirst, 0)
	}
	return c, m, err
}
