package redisstore

import (
	"context"
	"strconv"

	"inbox/inbox"
)

// OpenPut implements [inbox.Distant]. In a cluster the two mailboxes are
// seldom in one place, so it takes two steps there.
func (s *Store) OpenPut(ctx context.Context, name string, key inbox.Key, to string, m inbox.Message) (c inbox.Claim, err error) {
	l, err := s.reach()
	if err != nil {
		return c, err
	}
	if l.cluster {
		if c, err = s.Open(ctx, name, key, nil); err == nil {
			err = s.Put(ctx, to, m, 0)
		}
		return c, err
	}
	t := s.letter(l, to, &m)
	err = s.again(ctx, func() error {
		c, err = s.openPut(ctx, l, name, key, &t)
		return err
	})
	return c, err
}

// openPut is one try. Who may not put now still learns whether the key fits.
func (s *Store) openPut(ctx context.Context, l *link, name string, key inbox.Key, t *letter) (c inbox.Claim, err error) {
	bill, refusal := s.ledger.reserveBytes(t.payer, t.size)
	if refusal != nil {
		if c, err = s.Open(ctx, name, key, nil); err == nil {
			err = refusal
		}
		return c, err
	}
	o := s.prepare(l, name, key, nil)
	answer, err := s.do(ctx, l, "open put", []place{o.place, t.place}, bill, append(o.args, s.putArgs(t, 0)...)...)
	if err != nil {
		return c, err
	}
	c, rest, err := o.claim(answer)
	if err != nil {
		return c, err
	}
	if len(rest) != 1 {
		return c, errGarbage
	}
	return c, putStatus(rest[0])
}

// OpenNext implements [inbox.Distant].
func (s *Store) OpenNext(ctx context.Context, name string, key inbox.Key, ack uint64) (c inbox.Claim, m inbox.Message, err error) {
	l, err := s.reach()
	if err != nil {
		return c, m, err
	}
	o := s.prepare(l, name, key, nil)
	answer, err := s.do(ctx, l, "open next", []place{o.place}, nil, append(o.args, strconv.FormatUint(ack, 10), strconv.FormatInt(s.most, 10))...)
	if err != nil {
		return c, m, err
	}
	c, rest, err := o.claim(answer)
	if err != nil {
		return c, m, err
	}
	if len(rest) == 0 {
		return c, m, errGarbage
	}
	if m, _, err = l.looked(o.place, rest); err == errDamaged {
		m, _, err = s.look(ctx, l, o.place, c, s.passOver(m), lookFirst, 0)
	}
	return c, m, err
}
