package redisstore

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"

	"inbox/inbox"

	"github.com/redis/rueidis"
)

// entry is an amount on one of the store's sums.
type entry struct {
	sum string
	n   int64
}

// bill is what a step would cost.
type bill []entry

// payer is an inbox.Payer as the store sees it.
type payer struct{ client, network string }

func inboxBill(p payer) bill             { return p.bill("n", "i:", "I:", 1) }
func bytesBill(p payer, size int64) bill { return p.bill("t", "b:", "B:", size) }

func (p payer) bill(total, client, network string, n int64) bill {
	b := bill{{total, n}}
	if p.client != "" {
		b = append(b, entry{client + p.client, n})
		if p.network != "" {
			b = append(b, entry{network + p.network, n})
		}
	}
	return b
}

// ledger is this node's view of what all hold: what the store said a moment
// ago, what this node did since, and what it is about to do. The last two make
// quotas exact for one node; what others do is seen with the next refresh.
type ledger struct {
	limits  inbox.Limits
	mu      sync.Mutex
	total   map[string]int64
	pending map[string]int64
	seen    [buckets]int64 // versions of the sums in total
	recent  []change       // since the refresh that is under way began
	open    bool           // whether one is
}

// change is what one step did to the sums of a bucket.
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

// reserveInbox returns a bill to be released, or why the payer may have no
// mailbox more.
func (l *ledger) reserveInbox(p payer) (bill, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if most := int64(l.limits.MaxInboxes); most > 0 && l.heldLocked("n") >= most {
		return nil, inbox.ErrTooManyInboxes
	}
	b := inboxBill(p)
	for i, e := range b[1:] {
		if err := l.limits.AllowInbox(l.heldLocked(e.sum), factor(i)); err != nil {
			return nil, err
		}
	}
	l.reserveLocked(b)
	return b, nil
}

// reserveBytes is reserveInbox for a message.
func (l *ledger) reserveBytes(p payer, size int64) (bill, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, queued := bytesBill(p, size), l.heldLocked("t")
	for i, e := range b[1:] {
		if err := l.limits.AllowBytes(l.heldLocked(e.sum), size, factor(i), queued); err != nil {
			return nil, err
		}
	}
	if most := l.limits.MaxQueuedBytes; most > 0 && queued+size > most {
		return nil, inbox.ErrStoreFull
	}
	l.reserveLocked(b)
	return b, nil
}

// factor is how many budgets a payer's entry has: a client's comes first.
func factor(i int) int {
	if i == 0 {
		return 1
	}
	return inbox.NetworkFactor
}

func (l *ledger) heldLocked(sum string) int64 { return l.total[sum] + l.pending[sum] }

func (l *ledger) reserveLocked(b bill) {
	for _, e := range b {
		addTo(l.pending, e.sum, e.n)
	}
}

// release ends a reservation: what became of it, the store has said.
func (l *ledger) release(b bill) {
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

// apply takes in what a step changed, as its answer says.
func (l *ledger) apply(answer rueidis.RedisMessage) error {
	parts, err := answer.ToArray()
	if err != nil {
		return errGarbage
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
		return c, errGarbage
	}
	bucket, err := fields[0].ToString()
	if err != nil {
		return c, errGarbage
	}
	number, found := strings.CutPrefix(strings.TrimSuffix(bucket, "}"), "inbox:{")
	if c.bucket, err = strconv.Atoi(number); err != nil || !found || c.bucket < 0 || c.bucket >= buckets {
		return c, errGarbage
	}
	if c.version, err = fields[1].AsInt64(); err != nil {
		return c, errGarbage
	}
	for i := 2; i < len(fields); i += 2 {
		sum, err := fields[i].ToString()
		if err != nil {
			return c, errGarbage
		}
		n, err := fields[i+1].AsInt64()
		if err != nil {
			return c, errGarbage
		}
		c.entries = append(c.entries, entry{sum, n})
	}
	return c, nil
}

// add counts a change, unless it is in what the store said already.
func (l *ledger) add(c change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open {
		l.recent = append(l.recent, c)
	}
	if c.version <= l.seen[c.bucket] {
		return
	}
	for _, e := range c.entries {
		addTo(l.total, e.sum, e.n)
	}
}

// sums is what the store holds in one bucket.
type sums struct {
	version int64
	held    map[string]int64
}

// readSums reads what a sweep answered.
func readSums(answer rueidis.RedisMessage) (s sums, err error) {
	fields, err := answer.ToArray()
	if err != nil || len(fields)%2 != 0 {
		return s, errGarbage
	}
	s.held = make(map[string]int64, len(fields)/2)
	for i := 0; i < len(fields); i += 2 {
		sum, err := fields[i].ToString()
		if err != nil {
			return s, errGarbage
		}
		n, err := fields[i+1].AsInt64()
		if err != nil || n < 0 || n > math.MaxInt64/buckets {
			return s, fmt.Errorf("%w: a sum %q", errGarbage, sum)
		}
		switch sum {
		case "v":
			s.version = n
		case "L":
		default:
			s.held[sum] = n
		}
	}
	return s, nil
}

// begin says that the store is being asked for its sums.
func (l *ledger) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open, l.recent = true, l.recent[:0]
}

// replace takes what the store said of all buckets, and on top of it what this
// node did since each of them was asked.
func (l *ledger) replace(all *[buckets]sums) {
	total := map[string]int64{}
	for i := range all {
		for sum, n := range all[i].held {
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
		l.seen[i] = all[i].version
	}
	l.total, l.open, l.recent = total, false, nil
}
