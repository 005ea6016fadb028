package buckets

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time {
	return epoch.Add(time.Duration(seconds * float64(time.Second)))
}

// numbered returns different keys.
func numbered(i int) Key { return Key{Hash, uint64(i)} }

// take takes a token with a new entry, which remembers nothing.
func (t *Table) take(i int, now time.Time) bool {
	e := t.Entry(numbered(i))
	return t.Take(&e, now).OK
}

func (t *Table) charge(i, n int, now time.Time) {
	e := t.Entry(numbered(i))
	t.Charge(&e, n, time.Hour, now)
}

func (t *Table) ready(i int, now time.Time) bool {
	e := t.Entry(numbered(i))
	return t.Ready(&e, now).OK
}

func (t *Table) shardOf(i int) *shard {
	e := t.Entry(numbered(i))
	return &t.shards[e.hash%numShards]
}

// Traffic within its budget leaves a table no larger than the number of keys in debt.
func TestFullBucketsAreDropped(t *testing.T) {
	table := New(100, 100, 1<<17)
	for i := range 10000 {
		table.take(i, at(float64(i)/1000))
	}
	if n := table.Len(); n > 200 {
		t.Errorf("got %d buckets, want about the 10 that are in debt", n)
	}
	table.Sweep(at(100))
	if n := table.Len(); n > numShards {
		t.Errorf("got %d buckets after a sweep, want one per shard", n)
	}
}

// A table full of keys in debt stays bounded, keeps each debt, and makes new keys share buckets.
func TestAttackerDoesNotEvictDebt(t *testing.T) {
	const size, debtor = 1024, -1
	table := New(1, 5, size)
	for range 5 {
		table.take(debtor, at(0))
	}
	refused := 0
	for i := range 100 * size {
		if !table.take(i, at(0)) {
			refused++
		}
	}
	if n := table.Len(); n > size {
		t.Errorf("got %d buckets, want at most %d", n, size)
	}
	if table.take(debtor, at(0)) {
		t.Error("a debt was forgotten")
	}
	if want := 100*size - size - 5*numOverflow; refused < want {
		t.Errorf("got %d new keys refused, want %d: they share buckets", refused, want)
	}
	if !table.take(7_000_000, at(6)) {
		t.Error("a new key was refused after the debts were paid")
	}
}

// Which keys share a bucket differs between servers, so it cannot be precomputed.
func TestShardsDifferBetweenServers(t *testing.T) {
	a, b := New(1, 1, 1024), New(1, 1, 1024)
	same := 0
	for i := range 320 {
		if a.Entry(numbered(i)).hash%numShards == b.Entry(numbered(i)).hash%numShards {
			same++
		}
	}
	if same > 80 {
		t.Errorf("%d of 320 keys are in the same shard of two tables, want about 10", same)
	}
}

// A bucket in deep debt that was not used for long must not shield the full buckets behind
// it from eviction, or new keys would have to share.
func TestOldDebtorDoesNotBlockEviction(t *testing.T) {
	table := New(1, 5, 4*numShards)
	for i := range 1000 {
		if len(table.shardOf(i).buckets) == 0 {
			for range 400 {
				table.charge(i, 5, at(0))
			}
		}
	}
	for i := range 500 {
		table.take(10_000+i, at(float64(10+i)))
	}
	for i := range table.shards {
		if shared := table.shards[i].overflow; shared != [len(shared)]*rate.Limiter{} {
			t.Fatalf("new keys share %v, want a bucket for each", shared)
		}
	}
}

// New keys are charged even when the table is full, until there is room again.
func TestChargeWithFullTable(t *testing.T) {
	table := New(1, 5, 4*numShards)
	const added = -1
	for i := 0; len(table.shardOf(added).buckets) < table.perShard; i++ {
		for range 20 {
			table.charge(i, 5, at(0))
		}
	}
	for range 200 {
		table.charge(added, 5, at(0))
	}
	if table.ready(added, at(50)) {
		t.Error("a key in debt was admitted")
	}
	table.Sweep(at(200))
	if !table.ready(added, at(200)) {
		t.Error("a shared debt still counts although there is room")
	}
}

// TestEvictedBucketIsForgotten checks that an entry takes no token of a bucket that the table has
// evicted, as another entry of the key would use a second one.
func TestEvictedBucketIsForgotten(t *testing.T) {
	table := New(1, 2, 2*numShards)
	first := table.Entry(numbered(0))
	table.Take(&first, at(0))
	old := first.bucket
	other := 1
	for table.shardOf(other) != table.shardOf(0) {
		other++
	}
	if !table.take(other, at(1)) || old.limiter != nil || table.Len() != 1 {
		t.Fatalf("got %d buckets, the first with %v; want it evicted and emptied", table.Len(), old.limiter)
	}
	second := table.Entry(numbered(0))
	for i := range 3 { // of which two have a token
		e := []*Entry{&second, &first, &first}[i]
		if got, want := table.Take(e, at(2)).OK, i < 2; got != want {
			t.Errorf("token %d after the eviction: got %v, want %v", i+1, got, want)
		}
	}
	if first.bucket == old || first.bucket != second.bucket {
		t.Error("two entries of a key use two buckets")
	}
}

// TestEntriesAgainstLookups checks entries that remember their buckets, two of each key, against a
// table that looks up each bucket, and, as long as there is room, against the definition of a token
// bucket.
func TestEntriesAgainstLookups(t *testing.T) {
	for round := range 100 {
		seed := rand.Uint64()
		rng, size := rand.New(rand.NewPCG(seed, 0)), numShards*(1+round%4)
		p := newPair(size)
		for step := range 400 {
			if err := p.step(rng); err != nil {
				t.Fatalf("size %d, seed %d, step %d: %v", size, seed, step, err)
			}
		}
	}
}

// pair is two tables that should do the same.
type pair struct {
	remembered, lookedUp *Table
	entries              [2][pairKeys]Entry // of remembered
	model                tokenModel
	now                  time.Time
}

const pairKeys = 64

func newPair(size int) *pair {
	const perSecond, burst = 2, 3
	p := &pair{
		remembered: New(perSecond, burst, size), lookedUp: New(perSecond, burst, size),
		model: tokenModel{perSecond: perSecond, burst: burst}, now: epoch,
	}
	p.lookedUp.seed = p.remembered.seed
	for i := range pairKeys {
		for e := range p.entries {
			p.entries[e][i] = p.remembered.Entry(numbered(i))
		}
	}
	return p
}

func (p *pair) step(rng *rand.Rand) error {
	i := rng.IntN(pairKeys)
	e, fresh := &p.entries[rng.IntN(2)][i], p.lookedUp.Entry(numbered(i))
	var got, want any
	switch kind := rng.IntN(100); {
	case kind < 10:
		p.now = p.now.Add(time.Duration(rng.IntN(3000)) * time.Millisecond)
	case kind < 20:
		got, want = p.remembered.Ready(e, p.now), p.lookedUp.Ready(&fresh, p.now)
	case kind < 30:
		got, want = p.remembered.Tokens(e, p.now), p.lookedUp.Tokens(&fresh, p.now)
	case kind < 33:
		p.remembered.Sweep(p.now)
		p.lookedUp.Sweep(p.now)
	case kind < 34:
		n := 1 + rng.IntN(3)
		got, want = p.remembered.Charge(e, n, 5*time.Second, p.now), p.lookedUp.Charge(&fresh, n, 5*time.Second, p.now)
		p.model.over = true // it has no debts
	default:
		res := p.remembered.Take(e, p.now)
		got, want = res, p.lookedUp.Take(&fresh, p.now)
		p.model.over = p.model.over || p.remembered.shares()
		if err := p.model.check(i, res.OK, p.now); err != nil {
			return err
		}
	}
	if got != want || p.remembered.Len() != p.lookedUp.Len() {
		return fmt.Errorf("key %d: got %+v and %d buckets, want %+v and %d", i, got, p.remembered.Len(), want, p.lookedUp.Len())
	}
	return nil
}

// shares reports whether keys have shared a bucket.
func (t *Table) shares() bool {
	for i := range t.shards {
		if shared := t.shards[i].overflow; shared != [len(shared)]*rate.Limiter{} {
			return true
		}
	}
	return false
}

// tokenModel is what token buckets that are never evicted grant.
type tokenModel struct {
	perSecond, burst float64
	used             [pairKeys]float64 // tokens that are missing
	last             [pairKeys]time.Time
	over             bool // the tables did what the model does not know
}

func (m *tokenModel) check(i int, granted bool, now time.Time) error {
	if m.over {
		return nil
	}
	m.used[i] = max(0, m.used[i]-m.perSecond*now.Sub(m.last[i]).Seconds())
	m.last[i] = now
	left := m.burst - m.used[i]
	if granted {
		m.used[i]++
	}
	const rounding = 1e-6
	if granted && left < 1-rounding || !granted && left > 1+rounding {
		return fmt.Errorf("key %d has %v tokens: got granted %v", i, left, granted)
	}
	return nil
}

// TestEvictionConcurrently checks that no key gets more than its burst and what is refilled, while
// its bucket is evicted and entries that remember it are used at the same time.
func TestEvictionConcurrently(t *testing.T) {
	const keys, burst, phases = 16, 4, 100
	table := New(1, burst, 64*numShards)
	var shared [keys]Entry
	for i := range shared {
		shared[i] = table.Entry(numbered(i))
	}
	var granted [keys]atomic.Int64
	for phase := range phases { // every fifth begins with full buckets, and takes tokens
		now := at(float64(phase))
		var group sync.WaitGroup
		for worker := range 6 {
			group.Go(func() {
				for range 20 {
					i := rand.IntN(keys)
					own := table.Entry(numbered(i))
					e := &shared[i]
					if worker%2 == 0 {
						e = &own
					}
					if phase%5 == 0 && table.Take(e, now).OK {
						granted[i].Add(1)
					}
					table.take(1000+rand.IntN(1000), now) // lets full buckets go
					table.Sweep(now)
				}
			})
		}
		group.Wait()
		for i := range granted {
			if got, most := granted[i].Load(), int64(burst+phase+1); got > most {
				t.Fatalf("key %d got %d tokens after %d s, want at most %d", i, got, phase, most)
			}
		}
	}
	if table.Len() > 64*numShards {
		t.Errorf("got %d buckets", table.Len())
	}
}
