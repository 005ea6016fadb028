package invite

import (
	"cmp"
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
	// maxJoiners bounds such mailboxes of one address, which several people can share. A network has
	// [quota.NetworkFactor] times as many.
	maxJoiners = 16
	// maxAllJoiners bounds those of all addresses.
	maxAllJoiners = 10_000
	// joinerRemember is how long the owner of such a mailbox is not seen before the store is asked.
	joinerRemember = time.Minute
	// maxForgotten bounds the claims that one sweep asks the store about.
	maxForgotten = 1000
	// sweepInterval is how often claims whose owners are not seen are compared with the store.
	sweepInterval = 10 * time.Second
	// checkInterval is how often claims are compared with the clock.
	checkInterval = time.Second
	// maxClosing is how many claims are being closed at once: a store over a network gets their
	// commands together.
	maxClosing = 64
)

// heldClaim is why an owner has a claim, and until when.
type heldClaim struct {
	claim   inbox.Claim
	owner   string // empty: nothing but the claim ends with the token
	invited bool   // has shown id
	id      invitationID
	until   time.Time // of id, without the clock skew
	// joinUntil ends the claim of an owner who uses the name without an invitation; else zero.
	joinUntil time.Time
	opened    time.Time // when its owner was seen last
}

// key returns what identifies the claim in the table. An owner is longer than a name.
func (h heldClaim) key() string { return cmp.Or(h.owner, h.claim.Name) }

// isOver reports whether the claim must end.
func (h heldClaim) isOver(r *registry, now time.Time) bool {
	if !h.joinUntil.IsZero() && !now.Before(h.joinUntil) {
		return true
	}
	e := r.byID[h.id]
	return h.invited && (e == nil || !e.Revoked.IsZero() || isOver(earlier(h.until, e.Expires), now))
}

// joiner is a device that enters a code, by the name of its mailbox.
type joiner struct {
	payer inbox.Payer
	until time.Time
	held  bool // has a held claim
}

// claimTable has the owners who have opened claims in this process. An owner who is not seen any
// more is dropped, once the store says that the claim has ended. A name can have several, one after
// the other: each can have been given what must end with the invitation.
type claimTable struct {
	remember time.Duration
	max      int // of held; zero is no limit
	mu       sync.Mutex
	held     map[string]heldClaim  // by key
	joiners  map[string]joiner     // by name
	perPayer map[inbox.Payer]int64 // joiners by client, and by network
}

func (t *claimTable) init(remember time.Duration, most int) {
	t.remember, t.max = remember, most
	t.held, t.joiners, t.perPayer = map[string]heldClaim{}, map[string]joiner{}, map[inbox.Payer]int64{}
}

// admitJoiner admits a mailbox of a device without an invitation, for ten minutes.
func (t *claimTable) admitJoiner(name string, payer inbox.Payer, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if j, known := t.joiners[name]; known {
		if !now.Before(j.until) {
			return ErrRequired
		}
		return nil
	}
	client, network := sharesOf(payer)
	if t.perPayer[client] >= maxJoiners || t.perPayer[network] >= maxJoiners*quota.NetworkFactor || len(t.joiners) >= maxAllJoiners {
		return &quota.Error{Limit: "joiners", Quota: maxJoiners}
	}
	t.joiners[name] = joiner{payer: payer, until: now.Add(joinerLifetime)}
	t.countLocked(payer, 1)
	return nil
}

// sharesOf returns the keys of a client and of its network, which is empty for IPv4.
func sharesOf(payer inbox.Payer) (client, network inbox.Payer) {
	return inbox.Payer{Client: payer.Client}, inbox.Payer{Network: payer.Network}
}

// countLocked counts a joiner against its client and network.
func (t *claimTable) countLocked(payer inbox.Payer, more int64) {
	client, network := sharesOf(payer)
	shares := []inbox.Payer{client}
	if payer.Network != "" {
		shares = append(shares, network)
	}
	for _, share := range shares {
		if t.perPayer[share] += more; t.perPayer[share] <= 0 {
			delete(t.perPayer, share)
		}
	}
}

func (t *claimTable) dropJoinerLocked(name string) {
	if j, known := t.joiners[name]; known {
		delete(t.joiners, name)
		t.countLocked(j.payer, -1)
	}
}

// hold notes the claim of an owner with an invitation. The latest one counts: its receiver supersedes
// the others.
func (t *claimTable) hold(h heldClaim, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if j, known := t.joiners[h.claim.Name]; known {
		j.held = false // not as a joiner
		t.joiners[h.claim.Name] = j
	}
	return t.putLocked(h, now)
}

// holdJoiner notes the claim of a device without an invitation. One that it has shown before still
// ends what it was given.
func (t *claimTable) holdJoiner(h heldClaim, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	j, known := t.joiners[h.claim.Name]
	if !known {
		return ErrRequired
	}
	if earlier := t.held[h.key()]; earlier.invited {
		h.invited, h.id, h.until = true, earlier.id, earlier.until
	}
	h.joinUntil = j.until
	if err := t.putLocked(h, now); err != nil {
		return err
	}
	j.held = true
	t.joiners[h.claim.Name] = j
	return nil
}

// holdEnded notes a claim whose token has ended, unless its owner has another one.
func (t *claimTable) holdEnded(h heldClaim, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.held[h.key()]; !known {
		_ = t.putLocked(h, now) // without a place for it, the claim expires
	}
}

func (t *claimTable) putLocked(h heldClaim, now time.Time) error {
	if _, known := t.held[h.key()]; !known && t.max > 0 && len(t.held) >= t.max {
		return inbox.ErrTooManyInboxes
	}
	h.opened = now
	t.held[h.key()] = h
	return nil
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
		if h.isOver(r, now) {
			all = append(all, h)
		}
	}
	for name, j := range t.joiners {
		if !j.held && !now.Before(j.until) {
			t.dropJoinerLocked(name)
		}
	}
	return all
}

// forgotten returns claims whose owners were not seen for long, and those of joiners sooner: they
// make a new one for each attempt. In a table that is almost full, it returns any.
func (t *claimTable) forgotten(now time.Time) (all []heldClaim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	isFull := t.max > 0 && len(t.held) >= t.max-t.max/8
	for _, h := range t.held {
		remember := t.remember
		if !h.invited {
			remember = min(remember, joinerRemember)
		}
		if len(all) < maxForgotten && (isFull || now.Sub(h.opened) >= remember) {
			all = append(all, h)
		}
	}
	return all
}

// seen notes that a claim has not ended, so that the store is not asked again soon.
func (t *claimTable) seen(h heldClaim, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if held := t.held[h.key()]; held.claim.Epoch == h.claim.Epoch && held.opened.Before(now) {
		held.opened = now
		t.held[h.key()] = held
	}
}

// drop forgets a claim, unless its owner has another one.
func (t *claimTable) drop(h heldClaim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	held := t.held[h.key()]
	held.opened = h.opened
	if held != h {
		return
	}
	delete(t.held, h.key())
	if !h.joinUntil.IsZero() {
		t.dropJoinerLocked(h.claim.Name)
	}
}

// Run follows changes of the invitations, and ends claims whose tokens cease to be valid, until ctx
// is done. A slow store does not delay the changes.
func (a *Access) Run(ctx context.Context) {
	var claims sync.WaitGroup
	defer claims.Wait()
	changes := make(chan time.Time, 1)
	claims.Go(func() {
		repeat(ctx, checkInterval, changes, func(ctx context.Context) {
			for _, check := range a.onCheck {
				check() // before the store, which can be slow
			}
			a.endClaims(ctx)
		})
	})
	claims.Go(func() { repeat(ctx, sweepInterval, nil, a.forgetClaims) })
	repeat(ctx, a.storage.Interval(), nil, func(ctx context.Context) {
		changed, err := a.reload(ctx)
		a.logFailure(ctx, err)
		if !changed {
			return
		}
		select {
		case changes <- time.Time{}:
		default: // one to come sees this change
		}
	})
}

// repeat calls do at each interval, and when now says so, until ctx is done.
func repeat(ctx context.Context, interval time.Duration, now <-chan time.Time, do func(context.Context)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-now:
		}
		do(ctx)
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
	ended := a.claims.ended(r, a.now())
	work := make(chan heldClaim)
	var workers sync.WaitGroup
	for range min(len(ended), maxClosing) {
		workers.Go(func() {
			for h := range work {
				a.endClaim(ctx, h)
			}
		})
	}
	for _, h := range ended {
		work <- h
	}
	close(work)
	workers.Wait()
}

func (a *Access) endClaim(ctx context.Context, h heldClaim) {
	err := a.store.Close(ctx, h.claim)
	if err == nil || errors.Is(err, inbox.ErrClaimEnded) {
		a.claims.drop(h)
		if h.invited && h.owner != "" {
			a.onEnd(h.owner)
		}
	} else if !errors.Is(err, inbox.ErrStoreUnavailable) && ctx.Err() == nil {
		a.log.Error("end the claim of an invitation", "err", err)
	}
}

// forgetClaims drops claims that have ended. To acknowledge nothing does not prolong a claim.
func (a *Access) forgetClaims(ctx context.Context) {
	for _, h := range a.claims.forgotten(a.now()) {
		switch err := a.store.Discard(ctx, h.claim, 0); {
		case errors.Is(err, inbox.ErrClaimEnded):
			a.claims.drop(h)
		case err == nil:
			a.claims.seen(h, a.now())
		}
	}
}
