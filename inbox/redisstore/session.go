package redisstore

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"inbox/inbox"

	"github.com/redis/rueidis"
)

// secretKey is the key of the secret that the nodes share.
const secretKey = "inbox:secret"

// classify reports whether an error means that the store is unavailable or full. If
// neither, the store refuses a command that inbox requires.
func classify(err error) (unavailable, full bool) {
	answer, ok := rueidis.IsRedisErr(err)
	if !ok {
		return !rueidis.IsParseErr(err), false
	}
	return classifyText(answer.Error())
}

// classifyText classifies the text of a Redis error; the client removes the prefix "ERR
// ". Redis 6 embeds the error of a command in that of the script that ran it.
func classifyText(text string) (unavailable, full bool) {
	text = strings.TrimPrefix(text, "ERR ")
	if at := strings.LastIndex(text, ": -"); at >= 0 && strings.HasPrefix(text, "Error running script") {
		text = text[at+len(": -"):]
	}
	word, _, _ := strings.Cut(text, " ")
	switch word {
	case "OOM":
		return false, true
	case "LOADING", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "TRYAGAIN", "BUSY", "MOVED", "ASK",
		"NOREPLICAS", "MISCONF", "NOAUTH", "NOPERM", "ACL", "WRONGPASS", "max":
		return true, false
	}
	return false, false
}

// run connects, and serves the connection until ctx ends or the store has another
// secret; then it connects again.
func (s *Store) run(ctx context.Context) {
	for ctx.Err() == nil {
		if sess := s.connect(ctx); sess != nil {
			s.serve(ctx, sess)
		}
	}
}

func (s *Store) serve(ctx context.Context, sess *session) {
	defer sess.Close()
	ctx, cancel := context.WithCancel(ctx)
	s.session.Store(sess)
	s.warnOfEviction(ctx, sess)
	s.log.Info("connected to store", "store", s.address, "kind", string(sess.Mode()), "sealed", sess.aead != nil)
	var wg sync.WaitGroup
	wg.Go(func() { s.listen(ctx, sess) })
	wg.Go(func() { s.keepWatches(ctx, sess) })
	s.refreshUsage(ctx, sess)
	otherSecret := ctx.Err() == nil
	s.session.Store(nil)
	cancel()
	wg.Wait()
	if otherSecret {
		s.outages.Add(1)
		s.watches.endAll(nil, inbox.ErrClaimEnded) // the claims are lost
	}
}

// warnOfEviction logs a warning if the store evicts keys when its memory is full.
func (s *Store) warnOfEviction(ctx context.Context, sess *session) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := sess.Do(ctx, sess.B().Info().Section("memory").Build()).ToString()
	if err == nil && !strings.Contains(info, "maxmemory_policy:noeviction") && !strings.Contains(info, "maxmemory:0\r") {
		s.log.Warn("store evicts mailboxes when its memory is full; set maxmemory-policy noeviction", "store", s.address)
	}
}

// connect retries until it succeeds or ctx ends.
func (s *Store) connect(ctx context.Context) *session {
	lastLogged := ""
	for ctx.Err() == nil {
		sess, err := s.dial(ctx)
		if err == nil {
			return sess
		}
		if reason := err.Error(); reason != lastLogged { // log each error once
			lastLogged = reason
			s.log.Warn("cannot connect to store; retrying", "store", s.address, "err", err)
		}
		pause(ctx, retryEvery)
	}
	return nil
}

func (s *Store) dial(ctx context.Context) (*session, error) {
	client, err := rueidis.NewClient(s.clientOption)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	cluster := client.Mode() == rueidis.ClientModeCluster
	sess := &session{Client: client, cluster: cluster, recheckEvery: recheckSingleEvery}
	if sess.cluster {
		sess.recheckEvery = recheckClusterEvery
	}
	err = checkVersions(ctx, client)
	var secret []byte
	if err == nil {
		secret, err = s.secret(ctx, sess)
	}
	if err == nil {
		sess.codec = newCodec(secret, s.key != nil)
		err = s.checkUsage(ctx, sess)
	}
	if err == nil {
		err = s.publishHeartbeat(ctx, sess)
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	return sess, nil
}

// errSecretMismatch reports that the nodes of a store are configured with different
// keys.
var errSecretMismatch = errors.New("the nodes of the store have different keys: " +
	"configure the same key file on all of them, or on none")

// secret returns the secret that keys the hashes: the configured key, or else the
// secret that the first node put into the store. With a configured key, the store holds
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
