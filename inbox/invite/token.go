// Package invite makes a server private: its clients need an invitation, or a guest pass of a
// client that has one. The operator makes invitations and revokes them ([Add], [Revoke]); a
// [Storage] keeps them in the state directory or in Redis. [Access] is what the handlers ask.
//
// An invitation is a secret of 128 bits, of which only the SHA-256 is kept. A guest pass is
// signed by the server, not kept, and valid for two names until it expires. Both are bearer
// tokens: a client that has one can use it. Package inbox and others read them from requests;
// this package logs none.
package invite

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"strings"
)

const (
	// tokenPrefix begins the text of an invitation, and passPrefix that of a guest pass.
	tokenPrefix = "invite_"
	passPrefix  = "guest_"
	// secretBytes is the size of the random part of an invitation.
	secretBytes = 16
	// checkBytes is the size of its checksum, which tells a truncated or misspelled one from one
	// that is not known.
	checkBytes = 4
	// MaxTokenBytes bounds the text of an invitation or a guest pass.
	MaxTokenBytes = 160
)

// tokenCoding has letters and digits only, so that no program drops the last character of a link.
var tokenCoding = base32.StdEncoding.WithPadding(base32.NoPadding)

var passCoding = base64.RawURLEncoding.Strict()

// digest is the SHA-256 of the secret of an invitation.
type digest [sha256.Size]byte

// newToken returns a new invitation and its digest.
func newToken() (text string, d digest) {
	secret := make([]byte, secretBytes)
	rand.Read(secret)
	return formatToken(secret), sha256.Sum256(secret)
}

func formatToken(secret []byte) string {
	return tokenPrefix + strings.ToLower(tokenCoding.EncodeToString(append(secret[:secretBytes:secretBytes], checksum(secret)...)))
}

func checksum(secret []byte) []byte {
	sum := sha256.Sum256(append([]byte("inbox invitation checksum "), secret...))
	return sum[:checkBytes]
}

// parseToken returns the digest of an invitation in either case. The error is [ErrDamaged].
func parseToken(text string) (digest, error) {
	if len(text) != len(tokenPrefix)+tokenCoding.EncodedLen(secretBytes+checkBytes) || !isToken(text) {
		return digest{}, ErrDamaged
	}
	decoded, err := tokenCoding.DecodeString(strings.ToUpper(text[len(tokenPrefix):]))
	if err != nil || string(decoded[secretBytes:]) != string(checksum(decoded[:secretBytes])) {
		return digest{}, ErrDamaged
	}
	return sha256.Sum256(decoded[:secretBytes]), nil
}

func isToken(text string) bool {
	return len(text) >= len(tokenPrefix) && strings.EqualFold(text[:len(tokenPrefix)], tokenPrefix)
}
