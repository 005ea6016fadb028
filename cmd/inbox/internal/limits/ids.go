package limits

import (
	"net/http"
	"sync/atomic"
	"time"

	"inbox/inbox"
	"inbox/ratelimit"
)

// IDGuard is the [Guard] of protocols whose clients have a connection for each name, such as the
// ids of PeerJS. As the number of connections is limited, the budget of new names is larger: one
// page can have many.
type IDGuard struct {
	*Guard
	ids     *ratelimit.RequestLimiter
	refused atomic.Int64
}

func newIDGuard(cfg Config, guard *Guard) *IDGuard {
	budget := ratelimit.Budget{}
	if cfg.Rate > 0 {
		budget = ratelimit.Budget{PerSecond: newIDRate, Burst: newIDBurst}
	}
	return &IDGuard{Guard: guard, ids: &ratelimit.RequestLimiter{
		Limiter: ratelimit.NewLimiter(budget, 0), Addr: guard.clients.Addr, DryRun: cfg.DryRun,
	}}
}

// Allow implements [inbox.Guard].
func (g *IDGuard) Allow(r *http.Request, a inbox.Attempt, name string) error {
	if a == inbox.NewName {
		return nil // Reserve decides
	}
	return g.Guard.Allow(r, a, name)
}

// Reserve implements [inbox.Guard]. A new name is charged at once.
func (g *IDGuard) Reserve(r *http.Request, a inbox.Attempt, name string) (bool, error) {
	if a != inbox.NewName {
		return g.Guard.Reserve(r, a, name)
	}
	wait, _ := g.ids.Delay(r) // without a pace
	if wait == 0 {
		return false, nil
	}
	g.refused.Add(1)
	budget := g.ids.Limiter.Budget()
	return false, &ratelimit.Refusal{Limit: "ids", Quota: budget.Burst, Wait: wait, Detail: "Your address has claimed many ids lately."}
}

// Record implements [inbox.Guard].
func (g *IDGuard) Record(r *http.Request, a inbox.Attempt, name string) {
	if a != inbox.NewName {
		g.Guard.Record(r, a, name)
	}
}

func (g *IDGuard) sweep(now time.Time) { g.ids.Limiter.Sweep(now) }
