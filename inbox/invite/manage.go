package invite

import (
	"context"
	"slices"
	"time"

	"inbox/inbox"
)

// Storage keeps the invitations of a server, or of all nodes of a store. Update can be called
// concurrently, also by other processes; Poll by one goroutine.
type Storage interface {
	// Poll returns the stored text if it has changed since the last call that returned one. The
	// text is nil if nothing is stored. The first call always reports a change.
	Poll(ctx context.Context) (text []byte, changed bool, err error)
	// Update replaces the text by what change returns for the present one, as one step: change can
	// be called again if another process has replaced the text meanwhile.
	Update(ctx context.Context, change func(text []byte) ([]byte, error)) error
	// Interval is the time between two calls of Poll by a server.
	Interval() time.Duration
}

// Add makes an invitation and returns its token, which is kept nowhere. A label that has an
// invitation gets another one.
//
// Errors: [ErrLabel], [ErrFull], those of the storage.
func Add(ctx context.Context, s Storage, label string, lifetime time.Duration, now time.Time) (token string, i Invitation, err error) {
	if label, err = parseLabel(label); err != nil {
		return "", i, err
	}
	now = now.UTC().Truncate(time.Second)
	i = Invitation{Label: label, Created: now, Expires: now.Add(min(lifetime, MaxLifetime))}
	err = update(ctx, s, now, func(r *registry) error {
		if len(r.entries) >= maxInvitations {
			return ErrFull
		}
		for added := false; !added; {
			var d digest
			token, d = newToken()
			added = r.add(i, d)
		}
		return nil
	})
	return token, i, err
}

// Revoke revokes the valid invitations of a label, or of all with [AllLabels], with their guest
// passes, and returns them.
//
// Errors: [ErrNoLabel], those of the storage.
func Revoke(ctx context.Context, s Storage, label string, now time.Time) (revoked []Invitation, err error) {
	if label != AllLabels {
		if label, err = parseLabel(label); err != nil {
			return nil, err
		}
	}
	now = now.UTC().Truncate(time.Second)
	err = update(ctx, s, now, func(r *registry) error {
		revoked = nil
		for _, e := range r.entries {
			if e.IsValid(now) && (label == AllLabels || e.Label == label) {
				e.Revoked = now
				revoked = append(revoked, e.Invitation)
			}
		}
		if len(revoked) == 0 && label != AllLabels {
			return ErrNoLabel
		}
		return nil
	})
	return revoked, err
}

// List returns the invitations, the newest ones first, with those that ended in the last 30 days.
func List(ctx context.Context, s Storage) ([]Invitation, error) {
	text, _, err := s.Poll(ctx)
	if err != nil {
		return nil, err
	}
	r, err := decodeRegistry(text)
	if err != nil {
		return nil, err
	}
	list := make([]Invitation, 0, len(r.entries))
	for _, e := range slices.Backward(r.entries) {
		list = append(list, e.Invitation)
	}
	return list, nil
}

// examinationLifetime is that of a guest pass of [Examine].
const examinationLifetime = 5 * time.Minute

// Examine returns how many invitations are valid, and a function that makes a guest pass for one
// name, with which a program of the operator can test a running server; nil without a valid
// invitation.
func Examine(ctx context.Context, s Storage, now time.Time) (valid int, pass func(name string) string, err error) {
	text, _, err := s.Poll(ctx)
	if err != nil {
		return 0, nil, err
	}
	r, err := decodeRegistry(text)
	if err != nil {
		return 0, nil, err
	}
	for _, e := range r.entries {
		if e.IsValid(now) {
			valid++
			pass = func(name string) string {
				return e.key.mint(e.id, [2]string{name, name}, now.Add(examinationLifetime), inbox.Payer{})
			}
		}
	}
	return valid, pass, nil
}

func update(ctx context.Context, s Storage, now time.Time, change func(*registry) error) error {
	return s.Update(ctx, func(text []byte) ([]byte, error) {
		r, err := decodeRegistry(text)
		if err != nil {
			return nil, err
		}
		r.prune(now)
		if err := change(r); err != nil {
			return nil, err
		}
		return r.encode()
	})
}
