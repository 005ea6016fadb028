// Package quota divides what a store of mailboxes can hold among its clients: the share of
// one shrinks as the store fills, and the last part is reserved for those that hold little.
package quota

import (
	"errors"
	"math"
	"time"
)

// ErrExceeded means that a payer is at its limit of mailboxes or queued bytes.
var ErrExceeded = errors.New("this address is at its limit")

// Limits says when the mailboxes of a store expire and how much the store can
// hold. A limit of zero is no limit. Timeout must be above zero.
type Limits struct {
	// Timeout ends a claim that its owner has not used for this time.
	Timeout time.Duration
	// Capacity is the number of unread messages that one mailbox can hold.
	Capacity int
	// MaxInboxes and MaxInboxesPerPayer bound the number of mailboxes. The
	// share of one payer shrinks as the store fills, and the last mailboxes are
	// reserved for payers that hold none. A limit below 16 is too small to be
	// divided: only MaxInboxesPerPayer divides it.
	MaxInboxes, MaxInboxesPerPayer int
	// MaxQueuedBytes and MaxQueuedBytesPerPayer bound the messages: their
	// bodies, senders and types, and the engine's overhead for each. They
	// include a Put that waits for its recipient. The share of one payer
	// shrinks as the store fills, so that large senders leave capacity for
	// small ones.
	MaxQueuedBytes, MaxQueuedBytesPerPayer int64
}

// Error is the [ErrExceeded] of an engine that knows which quota is
// used up.
type Error struct {
	// Limit is "inboxes" or "queued-bytes". Quota is how much of that the
	// payer can hold at present.
	Limit string
	Quota int64
}

func (e *Error) Error() string { return ErrExceeded.Error() + ": " + e.Limit }

// Is makes errors.Is report an ErrExceeded.
func (e *Error) Is(target error) bool { return target == ErrExceeded }

// AllowInbox returns nil if a payer that holds this many mailboxes can claim
// one more in a store that has claimed mailboxes in all, else a [Error].
// Engines that do not use a [Ledger] keep the same rule by it. factor is 1 for a
// client, [NetworkFactor] for a network.
func (l Limits) AllowInbox(held int64, factor int, claimed int64) error {
	return l.allow(Usage{Inboxes: int(held)}, Usage{Inboxes: 1}, factor, Usage{Inboxes: int(claimed)})
}

// AllowBytes returns nil if a payer that holds this many queued bytes can
// queue more bytes in a store that has queued bytes in all, else a
// [Error]. factor is as in [Limits.AllowInbox].
func (l Limits) AllowBytes(held, more int64, factor int, queued int64) error {
	return l.allow(Usage{Bytes: held}, Usage{Bytes: more}, factor, Usage{Bytes: queued})
}

// allow returns nil if a payer that holds u can hold more of a store that holds
// total, with factor times a client's quota, else a Error.
func (l Limits) allow(u, more Usage, factor int, total Usage) error {
	if quota := l.quotaInboxes(int64(factor), int64(total.Inboxes)); more.Inboxes > 0 && int64(u.Inboxes+more.Inboxes) > quota {
		return &Error{"inboxes", quota}
	}
	if quota := l.quotaBytes(int64(factor), total.Bytes); more.Bytes > 0 && u.Bytes+more.Bytes > quota {
		return &Error{"queued-bytes", quota}
	}
	return nil
}

// quotaInboxes returns how many mailboxes one payer can hold at present.
func (l Limits) quotaInboxes(factor, claimed int64) int64 {
	const minDivisible = 16
	quota := int64(math.MaxInt64)
	if l.MaxInboxesPerPayer > 0 {
		quota = factor * int64(l.MaxInboxesPerPayer)
	}
	if l.MaxInboxes >= minDivisible {
		quota = min(quota, l.shareOfInboxes(factor, claimed))
	}
	return quota
}

// shareOfInboxes returns how many mailboxes one payer can hold of a store in
// which this many are claimed. Up to the half it can have a quarter of those
// that are free. Up to the last sixteenth it can have a 240th of the store,
// which leaves some to a hundred payers at their maximum; then a 4096th. The
// last 64th is reserved for clients that hold none, and for networks of which
// few do. The share never grows as the store fills.
func (l Limits) shareOfInboxes(factor, claimed int64) int64 {
	const minShare = 4
	all := int64(l.MaxInboxes)
	switch free := all - claimed; {
	case free > all/2:
		return max(free/4, minShare)
	case free > all/16:
		return max(all*factor/240, minShare)
	case free > all/64:
		return max(all*factor/4096, 1)
	default:
		return max(min(factor, all*factor/64/256), 1)
	}
}

// quotaBytes returns how many bytes one payer can have queued at present.
func (l Limits) quotaBytes(factor, queued int64) int64 {
	quota := int64(math.MaxInt64)
	if l.MaxQueuedBytesPerPayer > 0 {
		quota = factor * l.MaxQueuedBytesPerPayer
	}
	if l.MaxQueuedBytes > 0 {
		quota = min(quota, l.share(queued, factor))
	}
	return quota
}

// share returns what one payer can hold of a store with this much queued. Up
// to the half, or further if 101 payers at their maximum would otherwise have
// less than 1 MiB each, a payer can take a quarter of what is free. Beyond it
// each has 1 MiB, or a 240th of a store that is too small for that. The last
// sixteenth is reserved for payers that hold next to nothing, so that they can
// still send an offer.
func (l Limits) share(queued, factor int64) int64 {
	const minReserveBytes, minShareBytes = 16 << 10, 64 << 10
	const maxedOutPayers, targetShareBytes = 102, 1<<20 + 1<<16
	free, reserve := l.MaxQueuedBytes-queued, l.MaxQueuedBytes/16
	fixedShare, heldBack := max(l.MaxQueuedBytes/240, minShareBytes), l.MaxQueuedBytes/2
	if need := reserve + maxedOutPayers*targetShareBytes; need < l.MaxQueuedBytes {
		fixedShare, heldBack = max(fixedShare, targetShareBytes), max(heldBack, need)
	}
	switch {
	case free > heldBack:
		return max(free/4, minShareBytes*factor)
	case free > reserve:
		return fixedShare * factor
	default:
		return max(l.MaxQueuedBytes/4096, minReserveBytes) * factor
	}
}
