package limits

import (
	"net/http"
	"time"

	"inbox/cmd/inbox/internal/conn"
	"inbox/inbox"
	"inbox/ratelimit"
)

// Guard limits guesses at passwords and names. It implements [inbox.Guard].
type Guard struct {
	attempts *ratelimit.AttemptLimiter
	clients  *conn.ClientResolver
	ownerTTL time.Duration
}

func newGuard(cfg Config, clients *conn.ClientResolver) *Guard {
	limits := ratelimit.AttemptLimits{OwnerTTL: cfg.OwnerTTL, MaxOwners: maxKnownOwners, DryRun: cfg.DryRun}
	if cfg.Rate > 0 {
		limits.WrongPasswords = ratelimit.Budget{PerSecond: guessRate, Burst: guessBurst}
		limits.NewNames = ratelimit.Budget{PerSecond: newNameRate, Burst: newNameBurst}
		limits.UnknownRecipients = limits.NewNames
		limits.NewCodes = ratelimit.Budget{PerSecond: guessRate, Burst: newNameBurst}
		limits.UnknownCodes = limits.WrongPasswords
	}
	return &Guard{ratelimit.NewAttemptLimiter(limits, clients.Addr), clients, cfg.OwnerTTL}
}

// attemptOf maps the attempts of package inbox to those of package ratelimit.
var attemptOf = [...]ratelimit.Attempt{
	inbox.PasswordGuess:    ratelimit.WrongPassword,
	inbox.NewName:          ratelimit.NewName,
	inbox.UnknownRecipient: ratelimit.UnknownRecipient,
	inbox.NewCode:          ratelimit.NewCode,
	inbox.UnknownCode:      ratelimit.UnknownCode,
}

// Allow implements [inbox.Guard].
func (g *Guard) Allow(r *http.Request, a inbox.Attempt, name string) error {
	return g.attempts.Allow(r, attemptOf[a], name)
}

// Record implements [inbox.Guard].
func (g *Guard) Record(r *http.Request, a inbox.Attempt, name string) {
	switch {
	case a != inbox.PasswordMatch:
		g.attempts.Failed(r, attemptOf[a], name)
	case g.clients.ShouldRecordOwner(r, name, g.ownerTTL/8):
		g.attempts.Succeeded(r, name)
	}
}

// Reserve implements [inbox.Guard]. A connection that sent the password of the name lately
// reserves nothing: its client knows the password, and it saves a lock.
func (g *Guard) Reserve(r *http.Request, a inbox.Attempt, name string) (bool, error) {
	if a == inbox.PasswordGuess && g.clients.IsRecordedOwner(r, name, g.ownerTTL) {
		return false, nil
	}
	return g.attempts.Reserve(r, attemptOf[a], name)
}

// Release implements [inbox.Guard].
func (g *Guard) Release(r *http.Request, a inbox.Attempt, name string) {
	g.attempts.Release(r, attemptOf[a], name)
}
