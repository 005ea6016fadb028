package invite

import (
	"context"
	"errors"
	"sync"
	"time"

	"inbox/inbox"
	"inbox/inbox/quota"
)

const (
	// joinerLifetime is how long a device that enters a code can use its mailbox.
	joinerLifetime = 10 * time.Minute
	// maxJoiners bounds such mailboxes of one address, which several people can share.
	maxJoiners = 16
	// maxAllJoiners bounds those of all addresses.
	maxAllJoiners = 10_000
	// maxForgotten bounds the claims that one sweep asks the store about.
	maxForgotten = 1000
	// sweepInterval is how often claims whose owners are not seen are compared with the store.
	sweepInterval = time.Minute
	// checkInterval is how often claims are compared with the clock.
	checkInterval = time.Second
)

// heldClaim is why a claim exists, and until when.
type heldClaim struct {
	claim  inbox.Claim
	owner  string // empty: of a joiner, or of another protocol
	id     invitationID
	until  time.Time // without the clock skew
	opened time.Time // when its owner was seen last
	joiner bool
}

// joiner is a device that enters a code, by the name of its mailbox.
type joiner struct {
	client string
	until  time.Time
}

// claimTable has the claims that clients of this process have opened. Claims whose owners are
// not seen any more are dropped, once the store says that they have ended.
type claimTable struct {
	remember time.Duration
	mu       sync.Mutex
	held     map[string]heldClaim // by name
	joiners  map[string]joiner    // by name
	perNet   map[string]int       // joiners by client
}

func (t *claimTable) init(remember time.Duration) {
	t.remember = remember
	t.held, t.joiners, t.perNet = map[string]heldClaim{}, map[string]joiner{}, map[string]int{}
}

// admitJoiner admits a mailbox of a device without an invitation, for ten minutes.
func (t *claimTable) admitJoiner(name, client string, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if j, known := t.joiners[name]; known {
		if !now.Before(j.until) {
			return ErrRequired
		}
		return nil
	}
	if t.perNet[client] >= maxJoiners || len(t.joiners) >= maxAllJoiners {
		return &quota.Error{Limit: "joiners", Quota: maxJoiners}
	}
	t.joiners[name] = joiner{client, now.Add(joinerLifetime)}
	t.perNet[client]++
	return nil
}

func (t *claimTable) dropJoinerLocked(name string) {
	j, known := t.joiners[name]
	if !known {
		return
	}
	delete(t.joiners, name)
	if t.perNet[j.client]--; t.perNet[j.client] <= 0 {
		delete(t.perNet, j.client)
	}
}

// hold notes a claim. The latest token counts: its receiver supersedes the others.
func (t *claimTable) hold(c inbox.Claim, h heldClaim, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.joiner {
		h.until = t.joiners[c.Name].until
	}
	h.claim, h.opened = c, now
	t.held[c.Name] = h
}

func (t *claimTable) count() (claims, joiners int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int64(len(t.held)), int64(len(t.joiners))
}

// ended returns the claims whose tokens are no longer valid.
func (t *claimTable) ended(r *registry, now time.Time) (all []heldClaim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.held {
		if h.joiner {
			if !now.Before(h.until) {
				all = append(all, h)
			}
			continue
		}
		if e := r.byID[h.id]; e == nil || !e.Revoked.IsZero() || isOver(h.until, now) {
			all = append(all, h)
		}
	}
	for name, j := range t.joiners {
		if _, held := t.held[name]; !held && !now.Before(j.until) {
			t.dropJoinerLocked(name)
		}
	}
	return all
}

// forgotten returns claims whose owners were not seen for long, and those of joiners sooner: they
// make a new one for each attempt.
func (t *claimTable) forgotten(now time.Time) (all []heldClaim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.held {
		remember := t.remember
		if h.joiner {
			remember = min(remember, sweepInterval)
		}
		if now.Sub(h.opened) >= remember && len(all) < maxForgotten {
			all = append(all, h)
		}
	}
	return all
}

// drop forgets a claim, unless the name has another one.
func (t *claimTable) drop(h heldClaim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if held := t.held[h.claim.Name]; held.claim.Epoch == h.claim.Epoch && held.id == h.id && held.joiner == h.joiner {
		delete(t.held, h.claim.Name)
		t.dropJoinerLocked(h.claim.Name)
	}
}

// Run follows changes of the invitations, and ends claims whose tokens cease to be valid, until ctx
// is done.
func (a *Access) Run(ctx context.Context) {
	ticker := time.NewTicker(a.storage.Interval())
	defer ticker.Stop()
	var checked, swept time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := a.reload(ctx)
		a.logFailure(ctx, err)
		now := time.Now()
		if changed || now.Sub(checked) >= checkInterval {
			checked = now
			a.endClaims(ctx)
			for _, check := range a.onCheck {
				check()
			}
		}
		if now.Sub(swept) >= sweepInterval {
			swept = now
			a.forgetClaims(ctx)
		}
	}
}

// logFailure logs an error of the storage once. The store logs its own outages.
func (a *Access) logFailure(ctx context.Context, err error) {
	switch {
	case err == nil:
		a.failed = ""
	case ctx.Err() == nil && !errors.Is(err, inbox.ErrStoreUnavailable) && err.Error() != a.failed:
		a.failed = err.Error()
		a.log.Error("cannot load the invitations; those loaded before stay in force", "err", err)
	}
}

// endClaims ends the claims whose tokens are no longer valid, and so their receivers on all nodes.
// One that the store did not end is tried again.
func (a *Access) endClaims(ctx context.Context) {
	r := a.registry.Load()
	if r == nil {
		return
	}
	for _, h := range a.claims.ended(r, a.now()) {
		err := a.store.Close(ctx, h.claim)
		if err == nil || errors.Is(err, inbox.ErrClaimEnded) {
			a.claims.drop(h)
			if h.owner != "" {
				a.onEnd(h.owner)
			}
		} else if !errors.Is(err, inbox.ErrStoreUnavailable) && ctx.Err() == nil {
			a.log.Error("end the claim of an invitation", "err", err)
		}
	}
}

// forgetClaims drops claims that have ended. To acknowledge nothing does not prolong a claim.
func (a *Access) forgetClaims(ctx context.Context) {
	for _, h := range a.claims.forgotten(a.now()) {
		if err := a.store.Discard(ctx, h.claim, 0); errors.Is(err, inbox.ErrClaimEnded) {
			a.claims.drop(h)
		}
	}
}
