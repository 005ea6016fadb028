package redisstore

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"

	"inbox/inbox"
	"inbox/inbox/quota"

	"github.com/redis/rueidis"
)

// entry is an amount added to one of the store's sums.
type entry struct {
	sum string
	n   int64
}

// reservation is the cost of a step that is under way.
type reservation []entry

// payer is an inbox.Payer with hashed IDs, as stored.
type payer struct{ client, network string }

func inboxReservation(p payer) reservation { return p.newReservation("n", "i:", "I:", 1) }
func bytesReservation(p payer, size int64) reservation {
	return p.newReservation("t", "b:", "B:", size)
}

func (p payer) newReservation(total, client, network string, n int64) reservation {
	b := reservation{{total, n}}
	if p.client != "" {
		b = append(b, entry{client + p.client, n})
		if p.network != "" {
			b = append(b, entry{network + p.network, n})
		}
	}
	return b
}

// ledger is this node's view of the sums of all nodes: the state of the last refresh,
// the changes that this node made since, and the reservations of its pending steps. The
// latter two make quotas exact for a single node. Changes made by other nodes become
// visible with the next refresh.
type ledger struct {
	limits     inbox.Limits
	mu         sync.Mutex
	total      map[string]int64
	pending    map[string]int64
	versions   [buckets]int64 // versions of the sums in total
	recent     []change       // made since the current refresh began
	refreshing bool
}

// change is the effect of one step on the sums of a bucket.
type change struct {
	bucket  int
	version int64
	entries []entry
}

func (l *ledger) init(limits inbox.Limits) {
	l.limits = limits
	l.total, l.pending = map[string]int64{}, map[string]int64{}
}

func (l *ledger) stats() inbox.Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return inbox.Stats{Inboxes: l.total["n"], QueuedBytes: l.total["t"]}
}

// reserveInbox reserves one mailbox for a payer, or returns the limit that forbids it.
// The caller must release the reservation.
func (l *ledger) reserveInbox(p payer) (reservation, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	claimed := l.usageLocked("n")
	if limit := int64(l.limits.MaxInboxes); limit > 0 && claimed >= limit {
		return nil, inbox.ErrTooManyInboxes
	}
	b := inboxReservation(p)
	for i, e := range b[1:] {
		if err := l.limits.AllowInbox(l.usageLocked(e.sum), quotaFactor(i), claimed); err != nil {
			return nil, err
		}
	}
	l.reserveLocked(b)
	return b, nil
}

// reserveBytes is reserveInbox for a message of size bytes.
func (l *ledger) reserveBytes(p payer, size int64) (reservation, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, queued := bytesReservation(p, size), l.usageLocked("t")
	for i, e := range b[1:] {
		if err := l.limits.AllowBytes(l.usageLocked(e.sum), size, quotaFactor(i), queued); err != nil {
			return nil, err
		}
	}
	if limit := l.limits.MaxQueuedBytes; limit > 0 && queued+size > limit {
		return nil, inbox.ErrStoreFull
	}
	l.reserveLocked(b)
	return b, nil
}

// quotaFactor returns the number of budgets of a payer's entry i: the client comes
// first, then its network.
func quotaFactor(i int) int {
	if i == 0 {
		return 1
	}
	return quota.NetworkFactor
}

func (l *ledger) usageLocked(sum string) int64 { return l.total[sum] + l.pending[sum] }

func (l *ledger) reserveLocked(b reservation) {
	for _, e := range b {
		addTo(l.pending, e.sum, e.n)
	}
}

// release ends a reservation. The actual changes come with the reply of the store.
func (l *ledger) release(b reservation) {
	if len(b) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range b {
		addTo(l.pending, e.sum, -e.n)
	}
}

func addTo(sums map[string]int64, sum string, n int64) {
	if n += sums[sum]; n == 0 {
		delete(sums, sum)
	} else {
		sums[sum] = n
	}
}

// apply adds the changes of sums that a step's reply reports.
func (l *ledger) apply(answer rueidis.RedisMessage) error {
	parts, err := answer.ToArray()
	if err != nil {
		return errUnexpectedReply
	}
	for _, part := range parts {
		c, err := readChange(part)
		if err != nil {
			return err
		}
		l.add(c)
	}
	return nil
}

func readChange(part rueidis.RedisMessage) (c change, err error) {
	fields, err := part.ToArray()
	if err != nil || len(fields) < 2 || len(fields)%2 != 0 {
		return c, errUnexpectedReply
	}
	bucket, err := fields[0].ToString()
	if err != nil {
		return c, errUnexpectedReply
	}
	number, found := strings.CutPrefix(strings.TrimSuffix(bucket, "}"), "inbox:{")
	if c.bucket, err = strconv.Atoi(number); err != nil || !found || c.bucket < 0 || c.bucket >= buckets {
		return c, errUnexpectedReply
	}
	if c.version, err = fields[1].AsInt64(); err != nil {
		return c, errUnexpectedReply
	}
	for i := 2; i < len(fields); i += 2 {
		sum, err := fields[i].ToString()
		if err != nil {
			return c, errUnexpectedReply
		}
		n, err := fields[i+1].AsInt64()
		if err != nil {
			return c, errUnexpectedReply
		}
		c.entries = append(c.entries, entry{sum, n})
	}
	return c, nil
}

// add applies a change, unless the last refresh included it.
func (l *ledger) add(c change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refreshing {
		l.recent = append(l.recent, c)
	}
	if c.version <= l.versions[c.bucket] {
		return
	}
	for _, e := range c.entries {
		addTo(l.total, e.sum, e.n)
	}
}

// sums are the sums of one bucket in the store.
type sums struct {
	version int64
	values  map[string]int64
}

// readSums parses the sums in the reply of a sweep.
func readSums(answer rueidis.RedisMessage) (s sums, err error) {
	fields, err := answer.ToArray()
	if err != nil || len(fields)%2 != 0 {
		return s, errUnexpectedReply
	}
	s.values = make(map[string]int64, len(fields)/2)
	for i := 0; i < len(fields); i += 2 {
		sum, err := fields[i].ToString()
		if err != nil {
			return s, errUnexpectedReply
		}
		n, err := fields[i+1].AsInt64()
		if err != nil || n < 0 || n > math.MaxInt64/buckets {
			return s, fmt.Errorf("%w: invalid sum %q", errUnexpectedReply, sum)
		}
		switch sum {
		case "v":
			s.version = n
		case "L":
		default:
			s.values[sum] = n
		}
	}
	return s, nil
}

// beginRefresh starts to record changes, because the replies of the refresh can be
// older.
func (l *ledger) beginRefresh() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refreshing, l.recent = true, l.recent[:0]
}

// replace installs the sums of a refresh and re-applies the changes that this node made
// after each bucket was read.
func (l *ledger) replace(all *[buckets]sums) {
	total := map[string]int64{}
	for i := range all {
		for sum, n := range all[i].values {
			total[sum] += n
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.recent {
		if c.version > all[c.bucket].version {
			for _, e := range c.entries {
				addTo(total, e.sum, e.n)
			}
		}
	}
	for i := range all {
		l.versions[i] = all[i].version
	}
	l.total, l.refreshing, l.recent = total, false, nil
}
