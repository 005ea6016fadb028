package topics

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"inbox/inbox"
	"inbox/inbox/quota"
)

// DefaultMaxMembers is how many members a topic can have without [Limits.MaxMembers].
const DefaultMaxMembers = 1000

// Limits bound a [Memory]. The zero value has no limit but DefaultMaxMembers.
type Limits struct {
	// MaxMembers bounds the members of a topic. Zero is DefaultMaxMembers. The share of one payer
	// shrinks as the topic fills, so that a few addresses cannot keep others out of it.
	MaxMembers int
	// MaxTotal bounds the members of all topics, and MaxPerPayer those of one payer. A connection
	// is a member of each of its topics. Shares are those of mailboxes in [inbox.Limits].
	MaxTotal, MaxPerPayer int
}

// Memory has the topics of one process. It has an entry only for a topic with members. Make one
// with [NewMemory].
type Memory struct {
	ledger  *quota.Ledger
	total   int          // the most members of all topics; zero is no limit
	shares  inbox.Limits // of the members of one topic
	members atomic.Int64
	seed    maphash.Seed
	shards  [64]shard
}

// shard has a part of the topics. Lists of members are replaced, not changed, so that a frame can
// be delivered to them without the lock.
type shard struct {
	mu     sync.Mutex
	topics map[ID][]membership
}

type membership struct {
	member  Member
	account *quota.Account // of the payer
}

var _ Topics = (*Memory)(nil)

// NewMemory returns a Memory without topics.
func NewMemory(limits Limits) *Memory {
	if limits.MaxMembers <= 0 {
		limits.MaxMembers = DefaultMaxMembers
	}
	m := &Memory{
		total: limits.MaxTotal, seed: maphash.MakeSeed(),
		shares: inbox.Limits{MaxInboxes: limits.MaxMembers},
		ledger: quota.NewLedger(inbox.Limits{MaxInboxes: limits.MaxTotal, MaxInboxesPerPayer: limits.MaxPerPayer}),
	}
	for i := range m.shards {
		m.shards[i].topics = make(map[ID][]membership)
	}
	return m
}

// shard returns the shard of a topic. A client that chooses names cannot choose the shard.
func (m *Memory) shard(topic ID) *shard {
	return &m.shards[maphash.Bytes(m.seed, topic[:])%uint64(len(m.shards))]
}

// Join implements [Topics].
func (m *Memory) Join(topic ID, payer inbox.Payer, member Member) error {
	account, err := m.charge(payer)
	if err != nil {
		return err
	}
	s := m.shard(topic)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.topics[topic]
	if !m.isRoomFor(payer, old) {
		m.refund(account)
		return ErrTopicFull
	}
	members := make([]membership, len(old), len(old)+1)
	copy(members, old)
	s.topics[topic] = append(members, membership{member, account})
	return nil
}

// isRoomFor reports whether a topic with these members can have one more of a payer.
func (m *Memory) isRoomFor(payer inbox.Payer, members []membership) bool {
	if len(members) >= m.shares.MaxInboxes {
		return false
	}
	if payer.Client == "" {
		return true
	}
	var ofClient, ofNetwork int64
	for i := range members {
		switch a := members[i].account; {
		case a == nil:
		case a.Payer.Client == payer.Client:
			ofClient++
			ofNetwork++
		case a.Payer.Network == payer.Network && payer.Network != "":
			ofNetwork++
		}
	}
	all := int64(len(members))
	return m.shares.AllowInbox(ofClient, 1, all) == nil &&
		(payer.Network == "" || m.shares.AllowInbox(ofNetwork, quota.NetworkFactor, all) == nil)
}

// charge counts one more member.
func (m *Memory) charge(payer inbox.Payer) (*quota.Account, error) {
	total := int(m.members.Add(1))
	if m.total > 0 && total > m.total {
		m.members.Add(-1)
		return nil, ErrFull
	}
	account, err := m.ledger.Charge(payer, quota.Usage{Inboxes: 1}, quota.Usage{Inboxes: total - 1})
	if err != nil {
		m.members.Add(-1)
	}
	return account, err
}

func (m *Memory) refund(account *quota.Account) {
	m.members.Add(-1)
	m.ledger.Refund(account, quota.Usage{Inboxes: 1})
}

// Leave implements [Topics].
func (m *Memory) Leave(topic ID, member Member) {
	s := m.shard(topic)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.topics[topic]
	for i := range old {
		if old[i].member != member {
			continue
		}
		m.refund(old[i].account)
		if len(old) == 1 {
			delete(s.topics, topic)
			return
		}
		members := make([]membership, 0, len(old)-1)
		s.topics[topic] = append(append(members, old[:i]...), old[i+1:]...)
		return
	}
}

// Publish implements [Topics].
func (m *Memory) Publish(topic ID, frame func(members int) []byte) int {
	s := m.shard(topic)
	s.mu.Lock()
	members := s.topics[topic]
	s.mu.Unlock()
	if len(members) == 0 {
		return 0
	}
	b := frame(len(members))
	for _, to := range members {
		to.member.Deliver(b)
	}
	return len(members)
}

// Len implements [Topics].
func (m *Memory) Len() (topics, members int) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		topics += len(s.topics)
		s.mu.Unlock()
	}
	return topics, int(m.members.Load())
}
