// Package relaynodes joins the relay of a store with the nodes that hand out its credentials.
package relaynodes

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"inbox/turn"
)

const (
	// nodesInterval is how often nodes read what the others wrote: an owner's allocations end
	// that much later than the mailbox.
	nodesInterval = time.Second
	// monthTTL is how long the month counts as used up after the relay has said so.
	monthTTL     = time.Minute
	nodesTimeout = 3 * time.Second
	// lastSendTimeout bounds how long an unreachable store delays the exit of a node.
	lastSendTimeout = 3 * time.Second
	maxRevoked      = 10_000 // in the store, and in a node that cannot reach it
	maxRevokedBatch = 1000
	revokedTTL      = time.Hour
)

// revocation is what the stream has of an owner: a field and a value.
type revocation struct{ field, owner string }

// Fields of the stream.
const (
	revokedOwner       = "owner"       // ends allocations and credentials
	revokedCredentials = "credentials" // leaves allocations until they end
	revokedAll         = "all"         // ends the credentials of all owners: some are not known
)

// addScript adds entries to a stream that keeps the latest ones, for some time.
const addScript = `for i = 3, #ARGV, 2 do
	redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', ARGV[i], ARGV[i + 1])
end
redis.call('EXPIRE', KEYS[1], ARGV[2])`

// Client runs a command in the store, as redisstore.Store does.
type Client interface {
	Do(ctx context.Context, command []string, key string, args ...string) (any, error)
}

// Nodes joins the relay of a store with the nodes that hand out its credentials. The
// relay tells them that the month's traffic is used up, by a key that expires. They tell it
// whose mailboxes were deleted, by a stream: its entries have IDs of the store, so that the
// relay misses none after an outage. The store learns keyed hashes of the owners.
type Nodes struct {
	client             Client
	monthKey, revoked  string
	used               atomic.Bool // the month's traffic, as the relay says
	lastID             string      // of the stream
	log                *slog.Logger
	mu                 sync.Mutex
	waiting            []revocation
	lastMonthExchanged time.Time
}

func New(client Client, prefix string, log *slog.Logger) *Nodes {
	// One hash tag, so that the keys are in one slot of a Redis Cluster.
	return &Nodes{client: client, monthKey: prefix + "{turn}:month", revoked: prefix + "{turn}:revoked", log: log}
}

func (n *Nodes) MonthUsed() bool { return n.used.Load() }

// Revoke tells the relay, soon, to end the allocations of an owner.
func (n *Nodes) Revoke(owner string) { n.add(revocation{revokedOwner, owner}) }

// RevokeCredentials is Revoke that leaves the allocations until they end.
func (n *Nodes) RevokeCredentials(owner string) { n.add(revocation{revokedCredentials, owner}) }

func (n *Nodes) add(r revocation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case len(n.waiting) < maxRevoked:
		n.waiting = append(n.waiting, r)
	case r.field == revokedCredentials:
		n.waiting[maxRevoked-1] = revocation{revokedAll, "-"}
	}
}

// Run exchanges state until ctx is done, and then sends what waits. Server is nil unless this
// node is the relay.
func (n *Nodes) Run(ctx context.Context, server *turn.Server) {
	// The credentials of an owner who was revoked before a restart are valid until they expire.
	n.lastID = strconv.FormatInt(time.Now().Add(-turn.CredentialLifetime).UnixMilli(), 10)
	ticker := time.NewTicker(nodesInterval)
	defer ticker.Stop()
	for {
		n.Exchange(ctx, server)
		select {
		case <-ctx.Done():
			n.sendLast(ctx, server)
			return
		case <-ticker.C:
		}
	}
}

// sendLast sends the owners that wait when the node stops: no later process knows them.
func (n *Nodes) sendLast(ctx context.Context, server *turn.Server) {
	if server != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSendTimeout)
	defer cancel()
	if err := n.sendRevoked(ctx); err != nil {
		n.log.Warn("the relay does not learn of deleted mailboxes: it goes on with their calls", "err", err)
	}
}

// Exchange does what fails again in a second during an outage of the store, which that logs.
func (n *Nodes) Exchange(ctx context.Context, server *turn.Server) {
	var err error
	if server != nil {
		err = n.receiveRevoked(ctx, server)
	} else {
		err = n.sendRevoked(ctx)
	}
	if err == nil && time.Since(n.lastMonthExchanged) >= 5*nodesInterval {
		if err = n.exchangeMonth(ctx, server); err == nil {
			n.lastMonthExchanged = time.Now()
		}
	}
	if err != nil && ctx.Err() == nil {
		n.log.Debug("exchange the state of the relay", "err", err)
	}
}

func (n *Nodes) do(ctx context.Context, command, key string, args ...string) (any, error) {
	return n.run(ctx, []string{command}, key, args...)
}

func (n *Nodes) run(ctx context.Context, command []string, key string, args ...string) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, nodesTimeout)
	defer cancel()
	return n.client.Do(ctx, command, key, args...)
}

// exchangeMonth writes whether the month's traffic is used up, or reads it.
func (n *Nodes) exchangeMonth(ctx context.Context, server *turn.Server) error {
	if server == nil {
		value, err := n.do(ctx, "GET", n.monthKey)
		if err == nil {
			n.used.Store(value != nil)
		}
		return err
	}
	var err error
	if server.MonthUsed() {
		_, err = n.do(ctx, "SET", n.monthKey, "used", "EX", strconv.Itoa(int(monthTTL.Seconds())))
	} else {
		_, err = n.do(ctx, "DEL", n.monthKey)
	}
	return err
}

// sendRevoked adds the waiting owners to the stream, in batches.
func (n *Nodes) sendRevoked(ctx context.Context) error {
	for batch := n.peekWaiting(); len(batch) > 0; batch = n.peekWaiting() {
		args := append(make([]string, 0, 2+2*len(batch)), strconv.Itoa(maxRevoked), strconv.Itoa(int(revokedTTL.Seconds())))
		for _, r := range batch {
			args = append(args, r.field, r.owner)
		}
		if _, err := n.run(ctx, []string{"EVAL", addScript, "1"}, n.revoked, args...); err != nil {
			return err
		}
		n.dropWaiting(len(batch))
	}
	return nil
}

func (n *Nodes) peekWaiting() []revocation {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.waiting[:min(len(n.waiting), maxRevokedBatch)])
}

// dropWaiting drops the oldest waiting owners. A new slice lets the memory of a burst go.
func (n *Nodes) dropWaiting(count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiting = n.waiting[count:]; len(n.waiting) == 0 {
		n.waiting = nil
	}
}

// receiveRevoked ends the allocations of the owners that were added to the stream since the
// last call.
func (n *Nodes) receiveRevoked(ctx context.Context, server *turn.Server) error {
	for {
		answer, err := n.do(ctx, "XRANGE", n.revoked, n.lastID, "+", "COUNT", strconv.Itoa(maxRevokedBatch))
		if err != nil {
			return err
		}
		entries, _ := answer.([]any)
		if err := n.findGap(ctx, server, entries); err != nil {
			return err
		}
		for _, e := range entries {
			if id, r := streamEntry(e); id != "" && id != n.lastID {
				n.lastID = id
				r.apply(server, timeOfID(id))
			}
		}
		if len(entries) < maxRevokedBatch {
			return nil
		}
	}
}

func (r revocation) apply(server *turn.Server, until time.Time) {
	switch r.field {
	case revokedAll:
		server.RevokeAllCredentials(until)
	case revokedCredentials:
		server.RevokeCredentialsID(r.owner, until)
	default:
		server.RevokeID(r.owner, until)
	}
}

// findGap ends the credentials of all owners if the full stream has dropped entries that were not read.
// A stream that still has the last one that was read has dropped none.
func (n *Nodes) findGap(ctx context.Context, server *turn.Server, entries []any) error {
	if len(entries) == 0 {
		return nil
	}
	first, _ := streamEntry(entries[0])
	if first == n.lastID {
		return nil
	}
	length, err := n.do(ctx, "XLEN", n.revoked)
	if kept, _ := length.(int64); err != nil || kept < maxRevoked {
		return err
	}
	answer, err := n.do(ctx, "XRANGE", n.revoked, "-", "+", "COUNT", "1")
	if err != nil {
		return err
	}
	if oldest, _ := answer.([]any); len(oldest) == 1 {
		if id, _ := streamEntry(oldest[0]); id == first {
			server.RevokeAllCredentials(timeOfID(id))
		}
	}
	return nil
}

// streamEntry returns the ID of a stream entry and its only field.
func streamEntry(entry any) (id string, r revocation) {
	pair, ok := entry.([]any)
	if !ok || len(pair) != 2 {
		return "", r
	}
	id, _ = pair[0].(string)
	if fields, ok := pair[1].([]any); ok && len(fields) == 2 {
		r.field, _ = fields[0].(string)
		r.owner, _ = fields[1].(string)
	}
	return id, r
}

// timeOfID returns the end of the millisecond in which the store made an ID, such as
// 1526919030474-0.
func timeOfID(id string) time.Time {
	text, _, _ := strings.Cut(id, "-")
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Now()
	}
	return time.UnixMilli(ms + 1).Add(-time.Microsecond)
}
