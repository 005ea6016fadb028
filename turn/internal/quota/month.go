package quota

import (
	"bytes"
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	payerPart   = 8   // a payer can use 1/8 of what the others left;
	lastPart    = 16  // the last 1/16 serves payers
	smallUse    = 200 // that used less than 1/200;
	nearlyParts = 100 // nothing opens in the last 1/100

	// laterWait is how long the clock must be in a later month before that one begins,
	// earlierWait in an earlier one: as long as a month.
	laterWait   = 10 * time.Minute
	earlierWait = 31 * 24 * time.Hour

	// maxAccounts bounds the payers without an open flow.
	maxAccounts = 10000
)

// month counts the bytes of a calendar month (UTC). The clock of a server can be wrong, above
// all at the start of a machine without a real-time clock, and be corrected afterwards. So
// another month does not begin when the clock says so, but after a wait in elapsed time:
//
//   - Ten minutes in a later month. What is sent meanwhile counts for both. A clock that is in
//     the future for longer loses the count of one month.
//   - 31 days in an earlier month. A clock that is set back and corrected loses nothing, and
//     after a month that began by mistake in the far future, the count lasts one month at most.
type month struct {
	limit      int64 // zero is no limit
	used       atomic.Int64
	begin, end atomic.Int64 // in seconds since 1970
	side       atomic.Int64 // of the clock when follow last saw a change
	due        atomic.Int64 // when the month of the clock begins, unless side is inMonth

	mu         sync.Mutex
	usedBefore int64 // what was used when the wait began
	accounts   map[Hash]*account
}

// account is the use of the month by one payer, or by the /48 around it.
type account struct {
	used  atomic.Int64
	flows int // guarded by month.mu
}

// accounts are the payer and its network that a flow is charged to. Each can be nil.
type accounts [2]*account

func (m *month) init(limit int64, now time.Time, encoded []byte) error {
	m.limit = limit
	m.accounts = make(map[Hash]*account)
	l, err := decodeLedger(encoded)
	if err != nil || len(encoded) == 0 {
		m.setMonth(now)
		return err
	}
	m.setMonth(l.begin)
	m.used.Store(l.used)
	for _, e := range l.entries {
		a := new(account)
		a.used.Store(e.used)
		m.accounts[e.hash] = a
	}
	m.follow(now, 0)
	return nil
}

// The sides of the month on which the clock can be.
const (
	inMonth int64 = iota
	beforeMonth
	afterMonth
)

func (m *month) sideOf(now time.Time) int64 {
	switch s := now.Unix(); {
	case s < m.begin.Load():
		return beforeMonth
	case s >= m.end.Load():
		return afterMonth
	}
	return inMonth
}

// follow begins the month of the clock when its wait is over. The elapsed time must not
// depend on changes of the clock.
func (m *month) follow(now time.Time, elapsed time.Duration) {
	if m.unchanged(now, elapsed) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unchanged(now, elapsed) {
		return
	}
	side := m.sideOf(now)
	if side == m.side.Load() {
		m.setMonth(now)
		m.resetLocked()
		m.side.Store(inMonth)
		return
	}
	wait := laterWait
	if side == beforeMonth {
		wait = earlierWait
	}
	m.usedBefore = m.used.Load()
	m.due.Store(int64(elapsed + wait))
	m.side.Store(side)
}

func (m *month) unchanged(now time.Time, elapsed time.Duration) bool {
	side := m.sideOf(now)
	return side == m.side.Load() && (side == inMonth || int64(elapsed) < m.due.Load())
}

func (m *month) setMonth(now time.Time) {
	begin := firstOfMonth(now)
	m.begin.Store(begin.Unix())
	m.end.Store(begin.AddDate(0, 1, 0).Unix())
}

func firstOfMonth(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// resetLocked forgets all use of accounts, and that of the month until the wait began. What is
// charged or refunded meanwhile can count for either month.
func (m *month) resetLocked() {
	m.used.Add(-m.usedBefore)
	for hash, a := range m.accounts {
		a.used.Store(0)
		m.dropIfUnusedLocked(hash, a)
	}
}

func (m *month) dropIfUnusedLocked(hash Hash, a *account) {
	if a.flows == 0 && a.used.Load() <= 0 {
		delete(m.accounts, hash)
	}
}

// nearlyUsed reports whether 99 % of the month are used.
func (m *month) nearlyUsed() bool {
	return m.limit > 0 && m.used.Load() >= m.limit-m.limit/nearlyParts
}

// open returns the accounts of a payer, or false if one of them has used its share.
func (m *month) open(payer Payer) (opened accounts, ok bool) {
	if m.limit <= 0 {
		return accounts{}, true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	used := m.used.Load() + 1
	for i, hash := range payer.hashes() {
		if a := m.accounts[hash]; a != nil {
			if own := a.used.Load() + 1; own > m.share(used, own, factors[i]) {
				return accounts{}, false
			}
		}
	}
	for i, hash := range payer.hashes() {
		opened[i] = m.openLocked(hash)
	}
	return opened, true
}

func (m *month) openLocked(hash Hash) *account {
	if hash == (Hash{}) {
		return nil
	}
	a := m.accounts[hash]
	if a == nil {
		if len(m.accounts) >= maxAccounts {
			m.dropSmallestLocked()
		}
		a = new(account)
		m.accounts[hash] = a
	}
	a.flows++
	return a
}

// dropSmallestLocked drops a sixteenth of the accounts: those without a flow that used the
// least.
func (m *month) dropSmallestLocked() {
	var idle []entry
	for hash, a := range m.accounts {
		if a.flows == 0 {
			idle = append(idle, entry{hash, a.used.Load()})
		}
	}
	slices.SortFunc(idle, func(a, b entry) int { return cmp.Compare(a.used, b.used) })
	for _, e := range idle[:min(len(idle), maxAccounts/16)] {
		delete(m.accounts, e.hash)
	}
}

// close ends a flow of the accounts.
func (m *month) close(payer Payer, opened accounts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, hash := range payer.hashes() {
		if a := opened[i]; a != nil {
			a.flows--
			m.dropIfUnusedLocked(hash, a)
		}
	}
}

// charge charges n bytes to the month and to the accounts, or to none of them.
func (m *month) charge(to accounts, n int64) reason {
	used := m.used.Add(n)
	if m.limit <= 0 {
		return allowed
	}
	if used > m.limit {
		m.used.Add(-n)
		return monthExhausted
	}
	for i, a := range to {
		if a == nil {
			continue
		}
		if own := a.used.Add(n); own > m.share(used, own, factors[i]) {
			m.used.Add(-n)
			refundAccounts(to[:i+1], n)
			return shareExhausted
		}
	}
	return allowed
}

// refund returns n bytes that were charged. After the begin of a new month, they can count
// for either.
func (m *month) refund(to accounts, n int64) {
	m.used.Add(-n)
	refundAccounts(to[:], n)
}

func refundAccounts(accounts []*account, n int64) {
	for _, a := range accounts {
		if a != nil {
			a.used.Add(-n)
		}
	}
}

// factors are the shares of a payer and of its network.
var factors = [...]int64{1, networkFactor}

// share returns how much of the month an account can use that has used own bytes of the used
// ones. For given use by others it does not depend on own, except that it falls when the last
// sixteenth of the month begins.
func (m *month) share(used, own, factor int64) int64 {
	left := m.limit - max(0, used-own) // by the others
	share := left / payerPart * factor
	if m.limit-used < m.limit/lastPart {
		share = min(share, m.limit/smallUse*factor)
	}
	return share
}

// largestLocked returns the accounts with use, largest first, at most maxAccounts.
func (m *month) largestLocked() []entry {
	entries := make([]entry, 0, len(m.accounts))
	for hash, a := range m.accounts {
		if used := a.used.Load(); used > 0 {
			entries = append(entries, entry{hash, used})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(b.used, a.used), bytes.Compare(a.hash[:], b.hash[:]))
	})
	return entries[:min(len(entries), maxAccounts)]
}

// payers returns the number of accounts.
func (m *month) payers() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.accounts)
}
