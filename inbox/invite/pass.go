package invite

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"

	"inbox/inbox"
)

// A guest pass is, in base64url behind its prefix:
//
//	id       6 bytes   the invitation
//	expires  4 bytes   Unix time in seconds
//	names    16 bytes  a keyed hash of each name, 8 bytes
//	payer    0, 16 or 32 bytes, masked: client and network of the inviter
//	mac      16 bytes  HMAC-SHA256 of all before, truncated
//
// Its key follows from the digest of the invitation and from a secret of the registry: neither
// a guest nor a client with an invitation can make one, and it ends with the invitation.
const (
	idBytes     = 6
	expiryBytes = 4
	tagBytes    = 8
	payerBytes  = 16 // of its client, and of its network
	macBytes    = 16
	headBytes   = idBytes + expiryBytes + 2*tagBytes
)

const (
	// PassLifetime is that of a guest pass, and RememberedLifetime that of a pair of devices that
	// remember their room.
	PassLifetime       = 24 * time.Hour
	RememberedLifetime = 30 * 24 * time.Hour
	// clockSkew is how long invitations and guest passes are valid beyond their expiry, as the
	// clocks of nodes differ.
	clockSkew = time.Minute
)

// invitationID is the public name of an invitation in guest passes: a keyed hash of its digest.
type invitationID [idBytes]byte

type nameTag [tagBytes]byte

// passKey signs the guest passes of one invitation.
type passKey []byte

func newPassKey(secret []byte, d digest) passKey {
	key, err := hkdf.Key(sha256.New, secret, d[:], "inbox guest pass", sha256.Size)
	if err != nil {
		panic(err) // only for a key of more than 8160 bytes
	}
	return key
}

func (k passKey) sum(purpose string, data []byte) []byte {
	mac := hmac.New(sha256.New, k)
	mac.Write([]byte(purpose))
	mac.Write(data)
	return mac.Sum(nil)
}

func (k passKey) tagOf(name string) (t nameTag) {
	copy(t[:], k.sum("name\x00", []byte(name)))
	return t
}

// pass is a parsed guest pass. Its signature is not checked yet.
type pass struct {
	id      invitationID
	expires time.Time
	names   [2]nameTag
	signed  []byte // what precedes the MAC
	mac     []byte
}

// mint returns a guest pass for two names, which counts against a payer.
func (k passKey) mint(id invitationID, names [2]string, expires time.Time, payer inbox.Payer) string {
	b := append(make([]byte, 0, headBytes+2*payerBytes+macBytes), id[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(expires.Unix()))
	for _, name := range names {
		tag := k.tagOf(name)
		b = append(b, tag[:]...)
	}
	mask := k.sum("payer\x00", b)
	if len(payer.Client) == payerBytes && (payer.Network == "" || len(payer.Network) == payerBytes) {
		b = append(b, masked([]byte(payer.Client+payer.Network), mask)...)
	}
	return passPrefix + passCoding.EncodeToString(append(b, k.sum("pass\x00", b)[:macBytes]...))
}

// masked returns data that only the holder of the key can read. A guest must not learn the pseudonym
// of the inviter's address: with some keys, it reveals the address.
func masked(data, mask []byte) []byte {
	for i := range data {
		data[i] ^= mask[i]
	}
	return data
}

// parsePass parses a guest pass. The error is [ErrDamaged].
func parsePass(text string) (p pass, err error) {
	encoded, found := strings.CutPrefix(text, passPrefix)
	if !found || len(text) > MaxTokenBytes {
		return p, ErrDamaged
	}
	b, err := passCoding.DecodeString(encoded)
	if payer := len(b) - headBytes - macBytes; err != nil || payer != 0 && payer != payerBytes && payer != 2*payerBytes {
		return p, ErrDamaged
	}
	p.signed, p.mac = b[:len(b)-macBytes], b[len(b)-macBytes:]
	copy(p.id[:], b)
	p.expires = time.Unix(int64(binary.BigEndian.Uint32(b[idBytes:])), 0)
	for i := range p.names {
		copy(p.names[i][:], b[idBytes+expiryBytes+i*tagBytes:])
	}
	return p, nil
}

// signs reports whether the key has signed the pass, in constant time.
func (k passKey) signs(p pass) bool {
	return hmac.Equal(p.mac, k.sum("pass\x00", p.signed)[:macBytes])
}

// payerOf returns whom a signed pass counts against; empty if it does not say.
func (k passKey) payerOf(p pass) (payer inbox.Payer) {
	hidden := p.signed[headBytes:]
	if len(hidden) == 0 {
		return payer
	}
	shown := string(masked(append([]byte(nil), hidden...), k.sum("payer\x00", p.signed[:headBytes])))
	return inbox.Payer{Client: shown[:payerBytes], Network: shown[payerBytes:]}
}
