package invite

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"inbox/inbox/internal/names"
)

const (
	// maxInvitations bounds the registry, expired and revoked ones included.
	maxInvitations = 5000
	// maxLabelBytes bounds a label.
	maxLabelBytes = 64
	// maxTextBytes bounds the stored form of a registry.
	maxTextBytes = 4 << 20
	// keepEnded is how long an expired or revoked invitation is kept, so that its client learns
	// the reason.
	keepEnded = 30 * 24 * time.Hour
	// MaxLifetime bounds that of an invitation.
	MaxLifetime = 10 * 365 * 24 * time.Hour
	// AllLabels stands for the labels of all invitations.
	AllLabels = "all"
	format    = 1
)

// Errors of [Add], [Revoke] and of a registry that cannot be read.
var (
	ErrLabel      = errors.New("must be 1 to 64 bytes of visible text without a colon, and not \"all\"")
	ErrNoLabel    = errors.New("no valid invitation has this label")
	ErrFull       = fmt.Errorf("there are %d invitations already: revoke some, and wait until they are dropped", maxInvitations)
	errUnreadable = errors.New("the stored invitations cannot be read")
)

// Invitation is an invitation as the operator sees it.
type Invitation struct {
	Label            string
	Created, Expires time.Time
	// Revoked is zero unless the invitation was revoked.
	Revoked time.Time
}

// IsValid reports whether clients can use the invitation.
func (i Invitation) IsValid(now time.Time) bool {
	return i.Revoked.IsZero() && now.Before(i.Expires.Add(clockSkew))
}

// ended returns when the invitation ceased to be valid.
func (i Invitation) ended() time.Time {
	if i.Revoked.IsZero() || i.Expires.Before(i.Revoked) {
		return i.Expires
	}
	return i.Revoked
}

// entry is an invitation with what identifies it.
type entry struct {
	Invitation
	digest digest
	id     invitationID
	key    passKey
}

// registry has all invitations. It is immutable once it is shared.
type registry struct {
	secret  []byte // keys IDs and guest passes
	entries []*entry
	byID    map[invitationID]*entry
}

// newRegistry returns an empty registry.
func newRegistry() *registry {
	r := &registry{secret: make([]byte, sha256.Size), byID: map[invitationID]*entry{}}
	rand.Read(r.secret)
	return r
}

// idOf returns the ID of a digest. As it is keyed, the time of a lookup tells nothing about the
// digests in the registry.
func (r *registry) idOf(d digest) (id invitationID) {
	mac := hmac.New(sha256.New, r.secret)
	mac.Write([]byte("inbox invitation id\x00"))
	mac.Write(d[:])
	copy(id[:], mac.Sum(nil))
	return id
}

// add adds an invitation. It reports whether the ID was free.
func (r *registry) add(i Invitation, d digest) bool {
	e := &entry{i, d, r.idOf(d), newPassKey(r.secret, d)}
	if r.byID[e.id] != nil {
		return false
	}
	r.entries, r.byID[e.id] = append(r.entries, e), e
	return true
}

// find returns the invitation of a digest, or nil. It compares in constant time.
func (r *registry) find(d digest) *entry {
	if e := r.byID[r.idOf(d)]; e != nil && hmac.Equal(e.digest[:], d[:]) {
		return e
	}
	return nil
}

// prune drops invitations that ended long ago.
func (r *registry) prune(now time.Time) {
	r.entries = slices.DeleteFunc(r.entries, func(e *entry) bool {
		old := !e.IsValid(now) && now.Sub(e.ended()) > keepEnded
		if old {
			delete(r.byID, e.id)
		}
		return old
	})
}

// storedRegistry is the stored form.
type storedRegistry struct {
	Format      int                `json:"format"`
	Secret      []byte             `json:"secret"`
	Invitations []storedInvitation `json:"invitations"`
}

type storedInvitation struct {
	Label   string    `json:"label"`
	SHA256  []byte    `json:"sha256"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Revoked time.Time `json:"revoked,omitzero"`
}

// encode returns the stored form.
func (r *registry) encode() ([]byte, error) {
	stored := storedRegistry{Format: format, Secret: r.secret, Invitations: []storedInvitation{}}
	for _, e := range r.entries {
		stored.Invitations = append(stored.Invitations, storedInvitation{e.Label, e.digest[:], e.Created, e.Expires, e.Revoked})
	}
	return json.MarshalIndent(stored, "", " ")
}

// decodeRegistry parses the stored form. Without a text, it returns an empty registry.
func decodeRegistry(text []byte) (*registry, error) {
	if len(text) == 0 {
		return newRegistry(), nil
	}
	var stored storedRegistry
	if err := json.Unmarshal(text, &stored); err != nil {
		return nil, fmt.Errorf("%w: they are not valid JSON", errUnreadable)
	}
	switch {
	case stored.Format != format:
		return nil, fmt.Errorf("%w: format %d is not known", errUnreadable, stored.Format)
	case len(stored.Secret) != sha256.Size, len(stored.Invitations) > maxInvitations:
		return nil, fmt.Errorf("%w: they are damaged", errUnreadable)
	}
	r := &registry{secret: stored.Secret, byID: make(map[invitationID]*entry, len(stored.Invitations))}
	for _, s := range stored.Invitations {
		label, err := parseLabel(s.Label)
		if err != nil || label != s.Label || len(s.SHA256) != len(digest{}) || !r.add(Invitation{s.Label, s.Created, s.Expires, s.Revoked}, digest(s.SHA256)) {
			return nil, fmt.Errorf("%w: they are damaged", errUnreadable)
		}
	}
	return r, nil
}

// parseLabel returns the form in which labels are compared.
func parseLabel(label string) (string, error) {
	label, err := names.Parse(strings.TrimSpace(label))
	if err != nil || len(label) > maxLabelBytes || label == AllLabels {
		return "", ErrLabel
	}
	return label, nil
}
