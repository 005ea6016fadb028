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
	lookFirst = "first" // of a Next: it keeps the claim alive
	lookAgain = "again" // in the midst of one: only a message does
	lookLast  = lookFirst
	touchOnly = "touch"
)

// reach returns the store, unless none was found yet.
func (s *Store) reach() (*link, error) {
	l := s.link.Load()
	if l == nil {
		return nil, fmt.Errorf("%w: %s", inbox.ErrStoreAway, s.address)
	}
	return l, nil
}

// payer is p as the store sees it.
func (v *vault) payerOf(p inbox.Payer) payer {
	return payer{v.payer(p.Client), v.payer(p.Network)}
}

// opening is an Open, prepared.
type opening struct {
	name  string
	place place
	args  []string
	bill  bill
	over  error // why the payer may not make a mailbox, if one is needed
}

// prepare says what an Open sends, and pays for the mailbox it may make.
func (s *Store) prepare(l *link, name string, key inbox.Key, p *inbox.Payer) opening {
	o := opening{name: name, place: l.place(name)}
	pays, who := "0", payer{}
	if p != nil {
		who = l.payerOf(*p)
		if o.bill, o.over = s.ledger.reserveInbox(who); o.over == nil {
			pays = "1"
		}
	}
	o.args = []string{o.place.tag, l.password(name, key), pays, who.client, who.network}
	return o
}

// claim reads the beginning of what open, alone or with another step, answered.
func (o *opening) claim(answer []rueidis.RedisMessage) (c inbox.Claim, rest []rueidis.RedisMessage, err error) {
	status, err := answer[0].ToString()
	switch {
	case err != nil:
		return c, nil, errGarbage
	case status == "wrong":
		return c, nil, inbox.ErrWrongKey
	case status == "none" && o.over != nil:
		return c, nil, o.over
	case status == "none":
		return c, nil, inbox.ErrNoInbox
	case status != "ok" || len(answer) < 3:
		return c, nil, errGarbage
	}
	epoch, err := number(answer[1])
	if err != nil {
		return c, nil, err
	}
	fresh, err := answer[2].AsInt64()
	if err != nil {
		return c, nil, errGarbage
	}
	return inbox.Claim{Name: o.name, Epoch: epoch, Fresh: fresh == 1}, answer[3:], nil
}

func number(m rueidis.RedisMessage) (uint64, error) {
	text, err := m.ToString()
	if err != nil {
		return 0, errGarbage
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, errGarbage
	}
	return n, nil
}

// full is whether err may end when expired mailboxes are swept.
func full(err error) bool {
	return errors.Is(err, inbox.ErrTooManyInboxes) || errors.Is(err, inbox.ErrPayerFull) || errors.Is(err, inbox.ErrStoreFull)
}

// again calls f, and once more when it met a limit that sweeping, or the step
// itself, may have lifted.
func (s *Store) again(ctx context.Context, f func() error) error {
	err := f()
	if full(err) {
		s.reclaim(ctx)
		err = f()
	}
	return err
}

// Open implements [inbox.Store].
func (s *Store) Open(ctx context.Context, name string, key inbox.Key, p *inbox.Payer) (c inbox.Claim, err error) {
	l, err := s.reach()
	if err != nil {
		return c, err
	}
	err = s.again(ctx, func() error {
		o := s.prepare(l, name, key, p)
		answer, err := s.do(ctx, l, "open", []place{o.place}, o.bill, o.args...)
		if err == nil {
			c, _, err = o.claim(answer)
		}
		return err
	})
	return c, err
}

// letter is a Put, prepared.
type letter struct {
	place  place
	size   int64
	payer  payer
	record string
}

func (s *Store) letter(l *link, to string, m *inbox.Message) letter {
	p := l.place(to)
	size := int64(len(m.Body)+len(m.From)+len(m.ContentType)) + messageOverhead
	return letter{p, size, l.payerOf(m.Payer), l.seal(p.tag, m)}
}

// args are what a Put sends; knock is how long it goes on to wait.
func (s *Store) putArgs(t *letter, knock time.Duration) []string {
	return []string{
		t.place.tag, strconv.Itoa(s.limits.Capacity), strconv.FormatInt(t.size, 10), t.payer.client, t.payer.network,
		strconv.FormatInt(knock.Milliseconds(), 10), t.record,
	}
}

func putStatus(m rueidis.RedisMessage) error {
	switch status, err := m.ToString(); {
	case err != nil:
		return errGarbage
	case status == "ok":
		return nil
	case status == "none":
		return inbox.ErrNoInbox
	case status == "full":
		return inbox.ErrInboxFull
	}
	return errGarbage
}

// Put implements [inbox.Store].
func (s *Store) Put(ctx context.Context, to string, m inbox.Message, wait time.Duration) error {
	l, err := s.reach()
	if err != nil {
		return err
	}
	t := s.letter(l, to, &m)
	return s.again(ctx, func() error {
		bill, err := s.ledger.reserveBytes(t.payer, t.size)
		if err != nil {
			return err
		}
		if wait > 0 {
			defer s.ledger.release(bill)
			return s.knock(ctx, l, &t, wait)
		}
		return s.put(ctx, l, &t, 0, bill)
	})
}

func (s *Store) put(ctx context.Context, l *link, t *letter, knock time.Duration, bill bill) error {
	answer, err := s.do(ctx, l, "put", []place{t.place}, bill, s.putArgs(t, knock)...)
	if err != nil {
		return err
	}
	return putStatus(answer[0])
}

// knock puts as soon as somebody claims the name. Others are told of the
// knocks only for as long as this one lasts.
func (s *Store) knock(ctx context.Context, l *link, t *letter, wait time.Duration) error {
	w := s.waiters.add(t.place.tag, true)
	defer s.waiters.remove(w)
	deadline := time.Now().Add(wait)
	for rest := wait; rest > 0; rest = time.Until(deadline) {
		err := s.put(ctx, l, t, rest+time.Second, nil)
		if err != inbox.ErrNoInbox {
			return err
		}
		if err := w.wait(ctx, min(time.Until(deadline), l.recheck)); err != nil {
			return err
		}
	}
	return s.put(ctx, l, t, 0, nil)
}

// wait returns nil when w was woken or the time is over.
func (w *waiter) wait(ctx context.Context, most time.Duration) error {
	timer := time.NewTimer(most)
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
	l, err := s.reach()
	if err != nil {
		return inbox.Message{}, err
	}
	p := l.place(c.Name)
	if wait <= 0 {
		m, _, err := s.look(ctx, l, p, c, ack, lookFirst, 0)
		return m, err
	}
	w := s.waiters.add(p.tag, false) // before the first look: nothing may come in between
	defer s.waiters.remove(w)
	deadline := time.Now().Add(wait)
	m, left, err := s.look(ctx, l, p, c, ack, lookFirst, w.seq)
	for err == inbox.ErrEmpty {
		if err := w.wait(ctx, min(time.Until(deadline), left, l.recheck)); err != nil {
			s.touch(ctx, l, p, c)
			return m, err
		}
		if time.Until(deadline) <= 0 {
			return s.lastLook(ctx, l, p, c)
		}
		m, left, err = s.look(ctx, l, p, c, 0, lookAgain, w.seq)
		if now := s.link.Load(); now != nil && now != l {
			return m, inbox.ErrClaimOver // of a store that was emptied
		}
		if err == errUnreplicated || err == errCrowded {
			// Nobody wakes it for a message that it saw, nor is it the store's newest
			// poll any more: the message's sender has ended that.
			_, _, _ = s.look(ctx, l, p, c, 0, touchOnly, w.seq)
			err, left = inbox.ErrEmpty, lookAgainAfter
		} else if errors.Is(err, inbox.ErrStoreAway) {
			// The poll is held: what comes wakes it when the store is back.
			err, left = inbox.ErrEmpty, wait
		}
	}
	return m, err
}

// lastLook ends a wait. Whether the store is away then, the next poll tells.
func (s *Store) lastLook(ctx context.Context, l *link, p place, c inbox.Claim) (inbox.Message, error) {
	m, _, err := s.look(ctx, l, p, c, 0, lookLast, 0)
	if errors.Is(err, inbox.ErrStoreAway) {
		err = inbox.ErrEmpty
	}
	return m, err
}

// touch restarts the timeout after a wait that was given up.
func (s *Store) touch(ctx context.Context, l *link, p place, c inbox.Claim) {
	_, _, _ = s.look(context.WithoutCancel(ctx), l, p, c, 0, touchOnly, 0)
}

// look is one look into a mailbox, past what is damaged there. With ErrEmpty comes how long the claim still
// lives. A seq that is not 0 is told of what comes later.
func (s *Store) look(ctx context.Context, l *link, p place, c inbox.Claim, ack uint64, mode string, seq uint64) (inbox.Message, time.Duration, error) {
	for {
		answer, err := s.do(ctx, l, "next", []place{p}, nil, p.tag, strconv.FormatUint(c.Epoch, 10),
			strconv.FormatUint(ack, 10), mode, strconv.FormatUint(seq, 10), strconv.FormatInt(s.most, 10))
		if err != nil {
			return inbox.Message{}, 0, err
		}
		m, left, err := l.looked(p, answer)
		if err != errDamaged {
			return m, left, err
		}
		ack = s.passOver(m)
	}
}

// passOver says that a message is lost, and returns what forgets it: it would
// keep back all that came after it.
func (s *Store) passOver(m inbox.Message) (ack uint64) {
	s.log.Error("dropped a message that is damaged, or that another key sealed", "store", s.address)
	return m.ID
}

func (v *vault) looked(p place, answer []rueidis.RedisMessage) (m inbox.Message, left time.Duration, err error) {
	status, err := answer[0].ToString()
	switch {
	case err != nil:
	case status == "over":
		return m, 0, inbox.ErrClaimOver
	case status == "empty" && len(answer) == 2:
		ms, err := answer[1].AsInt64()
		if err != nil {
			return m, 0, errGarbage
		}
		return m, time.Duration(ms+1) * time.Millisecond, inbox.ErrEmpty
	case status == "ok" && len(answer) == 3:
		id, err := number(answer[1])
		if err != nil {
			return m, 0, err
		}
		record, err := answer[2].ToString()
		if err != nil {
			return m, 0, errGarbage
		}
		m, err = v.open(p.tag, record)
		m.ID = id
		return m, 0, err
	}
	return m, 0, errGarbage
}

// Discard implements [inbox.Store].
func (s *Store) Discard(ctx context.Context, c inbox.Claim, upTo uint64) error {
	return s.own(ctx, "discard", c, strconv.FormatUint(upTo, 10))
}

// Close implements [inbox.Store]. It does not end the store: [Store.Quit] does.
func (s *Store) Close(ctx context.Context, c inbox.Claim) error {
	return s.own(ctx, "close", c)
}

// own is a step on one's own mailbox.
func (s *Store) own(ctx context.Context, op string, c inbox.Claim, args ...string) error {
	l, err := s.reach()
	if err != nil {
		return err
	}
	p := l.place(c.Name)
	answer, err := s.do(ctx, l, op, []place{p}, nil, append([]string{p.tag, strconv.FormatUint(c.Epoch, 10)}, args...)...)
	if err != nil {
		return err
	}
	switch status, err := answer[0].ToString(); {
	case err == nil && status == "ok":
		return nil
	case err == nil && status == "over":
		return inbox.ErrClaimOver
	}
	return errGarbage
}
