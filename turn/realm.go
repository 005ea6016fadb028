package turn

import (
	"crypto/hmac"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/pion/stun/v4"
)

const (
	// realmPlaceholder is the realm in the answers of pion. It is as short as a token can be
	// that a client does not guess, because it is in each answer to an unauthenticated request.
	realmPlaceholder = "ABCDEFGH"
	// realmPeriod is how often the realm of an address changes. The one before is valid, too.
	realmPeriod = time.Hour
)

// realm returns the realm of a client. It is a token that only this address receives, so an
// Allocate that contains it does not have a forged source. Otherwise a client with
// credentials could open an allocation for somebody else's address and direct data there. The
// nonces of pion do not show it: they are valid for all clients.
func (i *Issuer) realm(client netip.Addr, at time.Time) string {
	period := binary.BigEndian.AppendUint64(nil, uint64(at.UnixNano()/int64(realmPeriod)))
	token := mac(i.realmKey, string(client.AppendTo(period)))
	return base64.RawURLEncoding.EncodeToString(token)[:len(realmPlaceholder)]
}

// checkRealm reports whether the client received this realm.
func (i *Issuer) checkRealm(realm string, client netip.Addr) bool {
	now := i.now()
	return equalTokens(realm, i.realm(client, now)) || equalTokens(realm, i.realm(client, now.Add(-realmPeriod)))
}

// equalTokens takes a time that does not depend on where they differ.
func equalTokens(a, b string) bool { return hmac.Equal([]byte(a), []byte(b)) }

// setRealm replaces the placeholder in a response.
func setRealm(response []byte, realm string) {
	msg := stun.Message{Raw: response}
	if msg.Decode() != nil {
		return
	}
	if value, err := msg.Get(stun.AttrRealm); err == nil && len(value) == len(realm) {
		copy(value, realm)
	}
}
