package peerjs

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"inbox/inbox"
)

// Nodes that share a store decide about an id with messages in its mailbox, which only the server
// can write: a frame begins with a brace. A node asks the one that has the id, which answers in the
// mailbox of the asking node. The owner of an id whose server stops is such a message, too.
const (
	controlAsk   = 'A' // nonce, token, payer
	controlOwner = 'O' // time of the loss, token, payer
	controlReply = 'R' // nonce, verdict, acknowledged ID

	nonceBytes = 16
	keyBytes   = len(inbox.Key{})
)

// isControl reports whether a message is no frame.
func isControl(m inbox.Message) bool { return len(m.Body) > 0 && m.Body[0] != '{' }

// question is what a node asks another one: whether a newcomer gets the id.
type question struct {
	nonce [nonceBytes]byte
	token inbox.Key
	payer string
}

func (q *question) encode() []byte {
	b := append([]byte{controlAsk}, q.nonce[:]...)
	return append(append(b, q.token[:]...), q.payer...)
}

func decodeQuestion(b []byte) (q question, ok bool) {
	if len(b) < 1+nonceBytes+keyBytes || b[0] != controlAsk {
		return q, false
	}
	b = b[1:]
	b = b[copy(q.nonce[:], b):]
	b = b[copy(q.token[:], b):]
	q.payer = string(b)
	return q, true
}

// reply is the answer to a question.
type reply struct {
	nonce   [nonceBytes]byte
	verdict verdict
	acked   uint64 // the last message that the holder has acknowledged
}

func (r *reply) encode() []byte {
	b := append([]byte{controlReply}, r.nonce[:]...)
	return binary.BigEndian.AppendUint64(append(b, byte(r.verdict)), r.acked)
}

func decodeReply(b []byte) (r reply, ok bool) {
	if len(b) != 1+nonceBytes+1+8 || b[0] != controlReply {
		return r, false
	}
	copy(r.nonce[:], b[1:])
	r.verdict, r.acked = verdict(b[1+nonceBytes]), binary.BigEndian.Uint64(b[2+nonceBytes:])
	return r, r.verdict <= unknown
}

func (o ownership) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{controlOwner}, uint64(o.lost.UnixMilli()))
	return append(append(b, o.token[:]...), o.payer...)
}

func decodeOwnership(b []byte) (o ownership, ok bool) {
	if len(b) < 1+8+keyBytes || b[0] != controlOwner {
		return o, false
	}
	o.lost = time.UnixMilli(int64(binary.BigEndian.Uint64(b[1:])))
	copy(o.token[:], b[9:])
	o.payer = string(b[9+keyBytes:])
	return o, true
}

// recordHolders leaves the owner of each id in its mailbox, for the next process.
func (h *Handler) recordHolders(held []*session) {
	work := make(chan *session)
	var workers sync.WaitGroup
	for range min(32, len(held)) {
		workers.Go(func() {
			for s := range work {
				h.recordHolder(s)
			}
		})
	}
	for _, s := range held {
		work <- s
	}
	close(work)
	workers.Wait()
}

func (h *Handler) recordHolder(s *session) {
	ctx, cancel := context.WithTimeout(h.ctx, releaseTimeout)
	defer cancel()
	owner := s.owner()
	switch {
	case owner.left:
		owner.lost = time.Time{} // the next client gets it
	case owner.lost.IsZero():
		owner.lost = time.Now()
	}
	// Without it, the id is freed for the next client that wants it.
	_, _ = h.Store.Put(ctx, s.name, inbox.Message{From: nodePrefix, Body: owner.encode()}, 0)
}

// recordedOwner returns the owner that the mailbox names, if any.
func (h *Handler) recordedOwner(ctx context.Context, c inbox.Claim) (owner ownership, known bool, err error) {
	err = h.eachMessage(ctx, c, 0, func(m inbox.Message) {
		if o, ok := decodeOwnership(m.Body); ok && isControl(m) {
			owner, known = o, true
		}
	})
	return owner, known, err
}

// handleControl handles a message of another node.
func (s *session) handleControl(m inbox.Message) {
	if q, ok := decodeQuestion(m.Body); ok {
		go s.h.answer(s, m.From, q)
	}
}

// attendLost looks for what other nodes want of an id whose line is lost.
func (h *Handler) attendLost(s *session) {
	s.attending.Lock()
	defer s.attending.Unlock()
	s.mu.Lock()
	end, after := s.end, s.written
	s.mu.Unlock()
	if end != nil {
		if h.remove(s) {
			s.detach()
		}
		return
	}
	_ = h.eachMessage(h.ctx, s.claim, after, func(m inbox.Message) { // an outage ends with the wait of the other node
		if isControl(m) && m.ID > s.attended {
			s.attended = m.ID
			s.handleControl(m)
		}
	})
}

// answer decides whether a client of another node gets the id. If so, the session ends when the
// other node watches the mailbox.
func (h *Handler) answer(s *session, from string, q question) {
	ctx, cancel := context.WithTimeout(h.ctx, releaseTimeout)
	defer cancel()
	r := reply{nonce: q.nonce}
	var err error
	r.verdict, err = s.judge(ctx, q.token, q.payer)
	switch {
	case errors.Is(err, errAgain) && !s.owner().lost.IsZero():
		r.verdict = s.owner().decide(q.token, q.payer, h.timing.grace) // the line was lost meanwhile
	case err != nil:
		return
	}
	r.verdict = s.promise(r.verdict, q.token)
	r.acked, _ = s.progress()
	_, _ = h.Store.Put(ctx, from, inbox.Message{From: nodePrefix, Body: r.encode()}, 0) // the other node does not wait for long
}

// nodePrefix begins the names of mailboxes in which nodes get replies.
const nodePrefix = "peerjs-node:"

// nodes asks other nodes. Its mailbox is made when it is first needed.
type nodes struct {
	h *Handler

	mu      sync.Mutex
	claim   inbox.Claim // zero before, and after it has ended
	stop    func()
	reading bool
	again   bool
	after   uint64
	waiters map[[nonceBytes]byte]chan reply
}

// ask returns the verdict of the node that has the claim of a session; unknown if none answers.
func (n *nodes) ask(ctx context.Context, s *session) (verdict, error) {
	from, err := n.open(ctx)
	if err != nil {
		return unknown, err
	}
	q := question{token: s.token, payer: s.payer.Client}
	rand.Read(q.nonce[:])
	answered := make(chan reply, 1)
	n.mu.Lock()
	n.waiters[q.nonce] = answered
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.waiters, q.nonce)
	}()
	timer := time.NewTimer(n.h.timing.ask)
	defer timer.Stop()
	_, err = n.h.Store.Put(ctx, s.name, inbox.Message{From: from, Body: q.encode()}, 0)
	switch {
	case errors.Is(err, inbox.ErrNoInbox):
		return unknown, errAgain
	case err != nil && !isPassing(err) || errors.Is(err, inbox.ErrStoreUnavailable):
		return unknown, err
	}
	select {
	case r := <-answered:
		s.acked, s.written, s.discard = r.acked, r.acked, r.acked > 0
		return r.verdict, nil
	case <-timer.C:
		return unknown, nil
	case <-ctx.Done():
		return unknown, ctx.Err()
	}
}

// open returns the name of the mailbox of this node, which it makes if there is none.
func (n *nodes) open(ctx context.Context) (name string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.claim.Name != "" {
		return n.claim.Name, nil
	}
	var random [16]byte
	rand.Read(random[:])
	name = nodePrefix + hex.EncodeToString(random[:])
	claim, err := n.h.Store.Open(ctx, name, n.h.keyOf(name), &inbox.Payer{})
	if err != nil {
		return "", fmt.Errorf("claim the mailbox of this node: %w", err)
	}
	stop, err := n.h.Store.Watch(claim, n.notify)
	if err != nil {
		return "", fmt.Errorf("watch the mailbox of this node: %w", err)
	}
	n.claim, n.stop, n.after = claim, stop, 0
	if n.waiters == nil {
		n.waiters = map[[nonceBytes]byte]chan reply{}
	}
	return name, nil
}

// notify is called by the store, also within open.
func (n *nodes) notify(end error) { go n.read(end) }

// read gives replies to those that wait for them. One call reads at a time.
func (n *nodes) read(end error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if end != nil {
		n.claim = inbox.Claim{}
		return
	}
	if n.again = true; n.reading {
		return
	}
	n.reading = true
	for n.again {
		n.again = false
		claim, after := n.claim, n.after
		n.mu.Unlock()
		replies, last := n.fetch(claim, after)
		n.mu.Lock()
		if n.claim == claim {
			n.after = last
		}
		for _, r := range replies {
			if answered := n.waiters[r.nonce]; answered != nil {
				answered <- r // has room for the only one
				delete(n.waiters, r.nonce)
			}
		}
	}
	n.reading = false
}

// fetch takes what is in the mailbox of this node.
func (n *nodes) fetch(claim inbox.Claim, after uint64) (replies []reply, last uint64) {
	last = after
	_ = n.h.eachMessage(n.h.ctx, claim, after, func(m inbox.Message) { // an outage ends with the wait for the reply
		if r, ok := decodeReply(bytes.Clone(m.Body)); ok {
			replies = append(replies, r)
		}
		last = m.ID
	})
	if last > after {
		_ = n.h.Store.Discard(n.h.ctx, claim, last) // the next one discards them, too
	}
	return replies, last
}
