package redisstore

import (
	"crypto/hmac"
	"errors"
	"sync"
)

// signedToken is a token as it is stored: with an authentication code of the nodes over
// mailbox, token and the keyed hash of the password. Other users of the store thus cannot
// combine the parts of two claims. It is empty in a store without a key of the nodes:
// the secret that is kept there would allow any reader to compute the code.
type signedToken string

const signedTokenSize = 2 * len(claimToken{})

// errOtherClaim means that a step was not done because the mailbox has another claim
// than the node knew.
var errOtherClaim = errors.New("redisstore: the mailbox has another claim")

// newSignedToken returns the token of a new claim.
func (c *codec) newSignedToken(tag, passwordHash string) signedToken {
	if c.aead == nil {
		return ""
	}
	token := string(random(len(claimToken{})))
	return signedToken(token + c.signature(tag, token, passwordHash))
}

func (c *codec) signature(tag, token, passwordHash string) string {
	return string(c.claims.sum(tag, token, passwordHash)[:len(claimToken{})])
}

// verifyToken returns the token of a claim, if a node made that claim of the mailbox with
// that password.
func (c *codec) verifyToken(tag string, signed signedToken, passwordHash string) (token claimToken, ok bool) {
	if c.aead == nil {
		return token, true
	}
	if len(signed) != signedTokenSize {
		return token, false
	}
	copy(token[:], signed)
	want := c.signature(tag, string(token[:]), passwordHash)
	return token, hmac.Equal([]byte(signed[len(token):]), []byte(want))
}

// token returns the token without its signature.
func (s signedToken) token() (token claimToken) {
	copy(token[:], s)
	return token
}

// verifiedClaim is a claim that a node made, as verifyToken has found.
type verifiedClaim struct {
	signed       signedToken
	passwordHash string
}

// claimCache remembers verified claims by the tag of their mailbox, so that a message can
// be sealed for its claim before the step that stores it. It has two generations and
// drops the older one as a whole. The zero value is empty.
type claimCache struct {
	mu         sync.Mutex
	young, old map[string]verifiedClaim
}

// maxCachedClaims bounds one generation. A claim takes about 200 bytes.
const maxCachedClaims = 25_000

func (c *claimCache) get(tag string) verifiedClaim {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.young[tag]; ok {
		return v
	}
	v, ok := c.old[tag]
	if ok {
		c.addLocked(tag, v)
	}
	return v
}

func (c *claimCache) add(tag string, v verifiedClaim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addLocked(tag, v)
}

func (c *claimCache) addLocked(tag string, v verifiedClaim) {
	if len(c.young) >= maxCachedClaims {
		c.old, c.young = c.young, nil
	}
	if c.young == nil {
		c.young = make(map[string]verifiedClaim)
	}
	c.young[tag] = v
}
