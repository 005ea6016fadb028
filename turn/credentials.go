package turn

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"inbox/turn/internal/quota"
)

const (
	// CredentialLifetime is how long after their issue credentials can open an allocation.
	CredentialLifetime = 10 * time.Minute
	// MaxAllocationLifetime bounds an allocation, however often it is refreshed.
	MaxAllocationLifetime = 24 * time.Hour

	minSecretBytes = 16
	// maxRevocations bounds the table of revoked owners. Each takes about 100 bytes.
	maxRevocations = 10000
)

// Errors of credentials. A server answers each of them with 401.
var (
	errMalformedUsername  = errors.New("malformed user name")
	errExpiredCredentials = errors.New("expired credentials")
	errRevokedCredentials = errors.New("revoked credentials")
)

// Payer identifies the client that the traffic of an allocation is charged to, and the IPv6
// /48 around it. Both are pseudonyms that are the same for all requests of one client and
// survive a restart, such as keyed hashes. An empty one has no share: only the limits of
// the whole server apply.
type Payer struct{ Client, Network string }

// Credentials are a user name and a password of TURN (RFC 8489, section 9.2).
type Credentials struct {
	Username, Password string
	// Expires is when they cease to open allocations. Allocations that exist are unaffected.
	Expires time.Time
}

// Issuer makes the credentials of a [Server]. Any process that knows the secret of the
// server can make them. All methods can be called concurrently.
//
// The user name is sent in clear text over UDP. It contains the time of expiry and keyed
// hashes of the owner and the payer, so that it reveals neither.
type Issuer struct {
	passwordKey, ownerKey, payerKey, realmKey []byte
	now                                       func() time.Time
}

// NewIssuer returns an issuer. The secret has 16 bytes or more.
func NewIssuer(secret []byte) (*Issuer, error) {
	if len(secret) < minSecretBytes {
		return nil, fmt.Errorf("the secret of TURN credentials has %d bytes, want at least %d", len(secret), minSecretBytes)
	}
	i := &Issuer{now: time.Now}
	for purpose, key := range map[string]*[]byte{"password": &i.passwordKey, "owner": &i.ownerKey, "payer": &i.payerKey, "realm": &i.realmKey} {
		var err error
		if *key, err = hkdf.Key(sha256.New, secret, nil, "turn credentials 1 "+purpose, sha256.Size); err != nil {
			return nil, fmt.Errorf("derive the %s key of TURN credentials: %w", purpose, err)
		}
	}
	return i, nil
}

// Issue returns credentials that open allocations for [CredentialLifetime]. The owner is
// what [Server.Revoke] is called with.
func (i *Issuer) Issue(owner string, payer Payer) Credentials {
	expires := i.now().Add(CredentialLifetime).Truncate(time.Microsecond)
	username := identity{
		owner:   i.ownerHash(owner),
		payer:   quota.Payer{Client: i.payerHash("client", payer.Client), Network: i.payerHash("network", payer.Network)},
		expires: expires,
	}.username()
	return Credentials{Username: username, Password: i.password(username), Expires: expires}
}

// password returns the only password of a user name, whatever its content.
func (i *Issuer) password(username string) string {
	return base64.RawURLEncoding.EncodeToString(mac(i.passwordKey, username))
}

// checkNew returns the identity for a request that opens an allocation. The caller verifies
// the password.
func (i *Issuer) checkNew(username string, revoked *revocations) (identity, error) {
	id, err := parseUsername(username)
	if err != nil {
		return identity{}, err
	}
	if !i.now().Before(id.expires) {
		return identity{}, errExpiredCredentials
	}
	if revoked.includes(id) {
		return identity{}, errRevokedCredentials
	}
	return id, nil
}

// checkExisting returns the identity for a request of an allocation that exists. Expired
// credentials are valid as long as any allocation of theirs can exist. An owner who was
// revoked has none.
func (i *Issuer) checkExisting(username string) (identity, error) {
	id, err := parseUsername(username)
	if err != nil {
		return identity{}, err
	}
	if !i.now().Before(id.expires.Add(MaxAllocationLifetime)) {
		return identity{}, errExpiredCredentials
	}
	return id, nil
}

// ownerHash is a pseudonym of an owner.
type ownerHash [12]byte

func (i *Issuer) ownerHash(owner string) ownerHash { return ownerHash(mac(i.ownerKey, owner)) }

// OwnerID returns a pseudonym of an owner for [Server.RevokeID].
func (i *Issuer) OwnerID(owner string) string {
	hash := i.ownerHash(owner)
	return usernameEncoding.EncodeToString(hash[:])
}

func parseOwnerID(id string) (hash ownerHash, ok bool) {
	if len(id) != usernameEncoding.EncodedLen(len(hash)) {
		return ownerHash{}, false
	}
	b, err := usernameEncoding.DecodeString(id)
	if err != nil || copy(hash[:], b) != len(hash) {
		return ownerHash{}, false
	}
	return hash, true
}

// payerHash returns a pseudonym, or zero for no payer.
func (i *Issuer) payerHash(kind, payer string) quota.Hash {
	if payer == "" {
		return quota.Hash{}
	}
	return quota.Hash(mac(i.payerKey, kind+" "+payer))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// identity is what a user name contains: the expiry in microseconds since 1970 (7 bytes),
// the owner, the payer's client and its network (12 bytes each).
type identity struct {
	owner   ownerHash
	payer   quota.Payer
	expires time.Time
}

const (
	expiryBytes   = 7
	identityBytes = expiryBytes + len(ownerHash{}) + 2*len(quota.Hash{})
)

// usernameEncoding rejects a second spelling of the same bytes.
var usernameEncoding = base64.RawURLEncoding.Strict()

func (id identity) issued() time.Time { return id.expires.Add(-CredentialLifetime) }

func (id identity) username() string {
	b := binary.BigEndian.AppendUint64(nil, uint64(id.expires.UnixMicro()))[8-expiryBytes:]
	b = append(b, id.owner[:]...)
	b = append(b, id.payer.Client[:]...)
	b = append(b, id.payer.Network[:]...)
	return usernameEncoding.EncodeToString(b)
}

func parseUsername(username string) (id identity, err error) {
	if len(username) != usernameEncoding.EncodedLen(identityBytes) {
		return identity{}, errMalformedUsername
	}
	b, err := usernameEncoding.DecodeString(username)
	if err != nil || len(b) != identityBytes {
		return identity{}, errMalformedUsername
	}
	var expiry [8]byte
	copy(expiry[8-expiryBytes:], b)
	id.expires = time.UnixMicro(int64(binary.BigEndian.Uint64(expiry[:])))
	b = b[expiryBytes:]
	b = b[copy(id.owner[:], b):]
	b = b[copy(id.payer.Client[:], b):]
	copy(id.payer.Network[:], b)
	return id, nil
}

// revocations are the owners whose credentials were revoked before these expired. Above
// maxRevocations, the oldest one is forgotten early. If its owner lost access, all credentials that
// were issued until then are revoked instead, and clients get others. That of a deleted mailbox must
// not do this: strangers can delete thousands of mailboxes.
type revocations struct {
	mu    sync.Mutex
	all   time.Time // of all owners; zero without
	at    map[ownerHash]time.Time
	queue []revocation // in the order of add; an owner who was revoked again has several
}

type revocation struct {
	owner  ownerHash
	at     time.Time
	denied bool // the owner lost access
}

// add revokes the credentials of the owner that were issued until a time.
func (r *revocations) add(owner ownerHash, until, now time.Time) {
	r.insert(revocation{owner: owner, at: until}, now)
}

// deny is add for an owner who has lost access.
func (r *revocations) deny(owner ownerHash, until, now time.Time) {
	r.insert(revocation{owner: owner, at: until, denied: true}, now)
}

// insert adds an entry, which is kept until the credentials have expired, by the clock and in
// elapsed time: the clock can be corrected.
func (r *revocations) insert(entry revocation, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil {
		r.at = make(map[ownerHash]time.Time)
	}
	for len(r.queue) > 0 && (len(r.queue) >= maxRevocations || r.queue[0].expired(now)) {
		r.dropOldestLocked(now)
	}
	if entry.at.After(r.at[entry.owner]) {
		r.at[entry.owner] = entry.at
		r.queue = append(r.queue, entry)
	}
}

func (r *revocations) dropOldestLocked(now time.Time) {
	oldest := r.queue[0]
	r.queue = r.queue[1:]
	if !r.at[oldest.owner].Equal(oldest.at) {
		return // revoked again since
	}
	delete(r.at, oldest.owner)
	if oldest.denied && !oldest.expired(now) {
		r.all = later(r.all, oldest.at)
	}
}

// addAll revokes all credentials that were issued until a time.
func (r *revocations) addAll(until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = later(r.all, until)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (r revocation) expired(now time.Time) bool {
	byClock := now.Round(0).Sub(r.at.Round(0))
	return min(byClock, now.Sub(r.at)) >= CredentialLifetime
}

// includes reports whether the credentials were valid at the revocation. Those that seem to be
// issued long before it had expired then, unless the clock was set back since: then they are
// new ones of the owner, who must not wait until the clock has caught up.
func (r *revocations) includes(id identity) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return id.precedes(r.all) || id.precedes(r.at[id.owner])
}

func (id identity) precedes(revoked time.Time) bool {
	return !id.issued().After(revoked) && id.expires.After(revoked)
}
