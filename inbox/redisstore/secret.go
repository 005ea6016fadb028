package redisstore

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/rueidis"
)

// secretKey is the key of the secret that the nodes share.
const secretKey = "inbox:secret"

// errSecretMismatch reports that the nodes of a store are configured with different
// keys.
var errSecretMismatch = errors.New("the nodes of the store have different keys: " +
	"configure the same key file on all of them, or on none")

// secret returns the secret that keys the hashes: the configured key, or else the
// secret that the first node put into the store. With a configured key, the store has
// a check value by which nodes with a different key are detected.
func (s *Store) secret(ctx context.Context, sess *session) ([]byte, error) {
	kind, ours := "secret ", random(keySize)
	if s.key != nil {
		kind, ours = "sealed ", derive(s.key, "check")
	}
	stored, _, err := s.loadOrStoreSecret(ctx, sess, kind+hex.EncodeToString(ours))
	if err != nil {
		return nil, err
	}
	text, ok := strings.CutPrefix(stored, kind)
	if !ok {
		return nil, errSecretMismatch
	}
	secret, err := hex.DecodeString(text)
	if err != nil || len(secret) != keySize {
		return nil, fmt.Errorf("key %s in the store is damaged: stop all nodes, then delete it", secretKey)
	}
	if s.key == nil {
		sess.identity = stored
		return secret, nil
	}
	if subtle.ConstantTimeCompare(secret, ours) != 1 {
		return nil, errSecretMismatch
	}
	sess.identity = stored
	return s.key, nil
}

// loadOrStoreSecret stores text unless the store has a secret, and returns the stored
// secret and whether it was created.
func (s *Store) loadOrStoreSecret(ctx context.Context, sess *session, text string) (stored string, created bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = sess.Do(ctx, sess.B().Set().Key(secretKey).Value(text).Nx().Build()).Error()
	if err != nil && !rueidis.IsRedisNil(err) {
		return "", false, fmt.Errorf("store the secret: %w", err)
	}
	created = err == nil
	if stored, err = sess.Do(ctx, sess.B().Get().Key(secretKey).Build()).ToString(); err != nil {
		return "", false, fmt.Errorf("read the secret: %w", err)
	}
	return stored, created, nil
}

// checkIdentity restores the secret after a FLUSHALL. It returns false if another node
// stored a different one first: then all hashes differ.
func (s *Store) checkIdentity(ctx context.Context, sess *session) bool {
	stored, emptied, err := s.loadOrStoreSecret(ctx, sess, sess.identity)
	if emptied {
		s.log.Warn("store was emptied; all mailboxes are lost", "store", s.address)
		s.tasks.Go(func() { s.watches.recheck(ctx) })
	}
	if err != nil || stored == sess.identity {
		return true
	}
	s.log.Warn("store was emptied and has another secret; reconnecting", "store", s.address)
	return false
}
