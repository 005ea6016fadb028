package invite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"inbox/inbox"
)

// Config configures an [Access]. Storage and Store are required.
type Config struct {
	Storage Storage
	// Store has the mailboxes whose claims end with their invitations.
	Store inbox.Store
	// OnEnd, if not nil, is called when a claim has ended with its token, with the owner that
	// Opened got. It can be called concurrently.
	OnEnd func(owner string)
	// Remember is how long an owner that is not seen is remembered at least: as long as a claim
	// lasts, or what the owner was given.
	Remember time.Duration
	// MaxClaims bounds the owners that are remembered, with those whose claims have ended lately.
	// More are refused with [inbox.ErrTooManyInboxes]. Zero is no limit.
	MaxClaims int
	// CodePrefix begins the names of mailboxes for short codes, and JoinerPrefix those of the
	// devices on which a code is entered. Such a device needs no invitation to claim a mailbox for
	// ten minutes, and to send to codes. Empty: all need one.
	CodePrefix, JoinerPrefix string
	// Logger gets what an operator should know. Nil discards it.
	Logger *slog.Logger
	// Now returns the time; nil is [time.Now].
	Now func() time.Time
}

// Access decides what the clients of a private server can do. It follows changes of the
// invitations while [Access.Run] runs. A token is what a client has sent: an invitation, a guest
// pass, or nothing. Refusals are problem documents. All methods can be called concurrently.
type Access struct {
	storage  Storage
	store    inbox.Store
	onEnd    func(owner string)
	codes    string
	joiners  string
	log      *slog.Logger
	now      func() time.Time
	registry atomic.Pointer[registry] // nil: not loaded yet
	passes   atomic.Int64             // made by this process
	failed   string                   // the last logged error of the storage
	onCheck  []func()
	claims   claimTable
}

// New returns the access of a server. It loads the invitations, unless a store is unavailable:
// then requests are refused with [inbox.ErrStoreUnavailable] until Run has loaded them.
func New(cfg Config) (*Access, error) {
	a := &Access{
		storage: cfg.Storage, store: cfg.Store, onEnd: cfg.OnEnd, codes: cfg.CodePrefix, joiners: cfg.JoinerPrefix, log: cfg.Logger, now: cfg.Now,
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	if a.onEnd == nil {
		a.onEnd = func(string) {}
	}
	a.claims.init(cfg.Remember, cfg.MaxClaims)
	_, err := a.reload(context.Background())
	if err != nil && !errors.Is(err, inbox.ErrStoreUnavailable) {
		return nil, fmt.Errorf("load the invitations: %w", err)
	}
	return a, nil
}

// reload loads the invitations if they have changed.
func (a *Access) reload(ctx context.Context) (changed bool, err error) {
	text, changed, err := a.storage.Poll(ctx)
	if err != nil || !changed {
		return false, err
	}
	r, err := decodeRegistry(text)
	if err != nil {
		return false, err
	}
	a.registry.Store(r)
	return true, nil
}

// grant is what a valid token allows.
type grant struct {
	entry *entry
	pass  *pass     // nil: an invitation
	until time.Time // without the clock skew
}

// covers reports whether the grant allows a name.
func (g grant) covers(name string) bool {
	if g.pass == nil {
		return true
	}
	tag := g.entry.key.tagOf(name)
	return tag == g.pass.names[0] || tag == g.pass.names[1]
}

// check returns what a token allows now.
func (a *Access) check(token string) (grant, error) {
	r := a.registry.Load()
	if r == nil {
		return grant{}, inbox.ErrStoreUnavailable
	}
	var g grant
	switch {
	case token == "":
		return g, ErrRequired
	case strings.HasPrefix(token, passPrefix):
		p, err := parsePass(token)
		if err != nil {
			return g, err
		}
		e := r.byID[p.id]
		if e == nil || !e.key.signs(p) {
			return g, ErrUnknown
		}
		g = grant{e, &p, earlier(p.expires, e.Expires)}
	default:
		d, err := parseToken(token)
		if err != nil {
			return g, err
		}
		e := r.find(d)
		if e == nil {
			return g, ErrUnknown
		}
		g = grant{e, nil, e.Expires}
	}
	if !g.entry.Revoked.IsZero() || isOver(g.until, a.now()) {
		return g, ErrExpired
	}
	return g, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// isOver reports whether a time has passed by more than clocks can differ.
func isOver(until, now time.Time) bool { return !now.Before(until.Add(clockSkew)) }

// Admit returns an error to refuse a client that claims or uses the mailbox of a name. client
// identifies it among those without an invitation.
func (a *Access) Admit(token, name string, client inbox.Payer) error {
	err := a.AdmitRelay(token, name)
	if err != nil && a.isJoiner(name) && !errors.Is(err, inbox.ErrStoreUnavailable) {
		return a.claims.admitJoiner(name, client, a.now())
	}
	return err
}

// AdmitRelay returns an error to refuse a client that wants credentials of a relay for the owner
// of a name.
func (a *Access) AdmitRelay(token, name string) error {
	g, err := a.check(token)
	if err == nil && !g.covers(name) {
		err = ErrOtherNames
	}
	return err
}

// AdmitMember returns an error to refuse a client that joins a topic, which has no owner. Guests
// can.
func (a *Access) AdmitMember(token string) error {
	_, err := a.check(token)
	return err
}

// AdmitPeer returns an error to refuse a client of another protocol that has an id, or sends to one.
// Ids that look like short codes have no exception.
func (a *Access) AdmitPeer(token, id string) error { return a.AdmitRelay(token, id) }

// AdmitSend returns an error to refuse a message to a name. A client with a guest pass can send to
// the names of its room, and every client to the owner of a short code.
func (a *Access) AdmitSend(token, to string) error {
	if a.codes != "" && strings.HasPrefix(to, a.codes) {
		return nil
	}
	return a.AdmitRelay(token, to)
}

// isJoiner reports whether a name is that of a device on which a code is entered: the prefix and
// 128 random bits in base64url.
func (a *Access) isJoiner(name string) bool {
	random, found := strings.CutPrefix(name, a.joiners)
	if a.joiners == "" || !found {
		return false
	}
	b, err := passCoding.DecodeString(random)
	return err == nil && len(b) == 16
}

// Opened reports that a client with the token has opened the claim of a mailbox. Access ends the
// claim when the token ceases to be valid, also if it did so before Opened. The error refuses the
// client: such a token, or too many claims.
func (a *Access) Opened(token string, c inbox.Claim, owner string) error {
	g, err := a.check(token)
	covers, now := g.entry != nil && g.covers(c.Name), a.now()
	h := heldClaim{claim: c, owner: owner}
	if covers {
		h.invited, h.id, h.until = true, g.entry.id, g.until
	}
	switch {
	case err == nil && covers:
		return a.claims.hold(h, now)
	case a.isJoiner(c.Name):
		return a.claims.holdJoiner(heldClaim{claim: c, owner: owner}, now)
	case covers:
		a.claims.holdEnded(h, now)
	}
	return cmp.Or[error](err, ErrOtherNames)
}

// OpenedPeer is Opened for the mailbox of a client that AdmitPeer has admitted.
func (a *Access) OpenedPeer(token string, c inbox.Claim) {
	g, err := a.check(token)
	if g.entry == nil {
		return
	}
	h := heldClaim{claim: c, invited: true, id: g.entry.id, until: g.until}
	if err != nil {
		a.claims.holdEnded(h, a.now())
		return
	}
	_ = a.claims.hold(h, a.now()) // with a full table, OnCheck ends the connection
}

// OnCheck adds a function that [Access.Run] calls when tokens can have ceased to be valid: after
// each change, and once a second. It must not wait. It must be added before Run.
func (a *Access) OnCheck(check func()) { a.onCheck = append(a.onCheck, check) }

// GuestPass returns a guest pass for two names, and when it expires. Only an invitation gets one.
// The guest counts against the payer of the inviter.
func (a *Access) GuestPass(token string, names [2]string, remembered bool, payer inbox.Payer) (text string, expires time.Time, err error) {
	g, err := a.checkInviter(token)
	if err != nil {
		return "", time.Time{}, err
	}
	lifetime := PassLifetime
	if remembered {
		lifetime = RememberedLifetime
	}
	expires = earlier(a.now().Add(lifetime), g.until).Truncate(time.Second)
	a.passes.Add(1)
	return g.entry.key.mint(g.entry.id, names, expires, payer), expires, nil
}

func (a *Access) checkInviter(token string) (grant, error) {
	g, err := a.check(token)
	if err == nil && g.pass != nil {
		err = ErrGuest
	}
	return g, err
}

// admitInviter returns an error to refuse a client that wants a guest pass.
func (a *Access) admitInviter(token string) error {
	_, err := a.checkInviter(token)
	return err
}

// Inviter returns whom a guest pass counts against; empty for other tokens.
func (a *Access) Inviter(token string) inbox.Payer {
	if !strings.HasPrefix(token, passPrefix) {
		return inbox.Payer{}
	}
	g, err := a.check(token)
	if err != nil {
		return inbox.Payer{}
	}
	return g.entry.key.payerOf(*g.pass)
}

// Stats are figures for operators.
type Stats struct {
	// Valid, Expired and Revoked are invitations, as far as they are kept.
	Valid, Expired, Revoked int64
	// GuestPasses is how many guest passes this process has made, Claims how many claims it ends
	// with their invitations, and Joiners how many of these are of devices that enter a code.
	GuestPasses, Claims, Joiners int64
}

// Stats returns the figures at present.
func (a *Access) Stats() (s Stats) {
	s.GuestPasses = a.passes.Load()
	s.Claims, s.Joiners = a.claims.count()
	r, now := a.registry.Load(), a.now()
	if r == nil {
		return s
	}
	for _, e := range r.entries {
		switch {
		case e.IsValid(now):
			s.Valid++
		case e.Revoked.IsZero():
			s.Expired++
		default:
			s.Revoked++
		}
	}
	return s
}
