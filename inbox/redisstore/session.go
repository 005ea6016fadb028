package redisstore

import (
	"time"

	"github.com/redis/rueidis"
)

// session is a connected store, with the keys that its nodes share.
type session struct {
	recheckEvery time.Duration
	rueidis.Client
	codec
	known    claimCache
	cluster  bool
	identity string // value of secretKey at connect time
}

// verifyClaim is verifyToken for a claim that the store returned. It remembers the claim.
func (sess *session) verifyClaim(tag string, v verifiedClaim) (token claimToken, ok bool) {
	if sess.aead == nil {
		return token, true
	}
	if sess.known.get(tag) == v && v.signed != "" {
		return v.signed.token(), true
	}
	if token, ok = sess.verifyToken(tag, v.signed, v.passwordHash); ok {
		sess.known.add(tag, v)
	}
	return token, ok
}
