package redisstore

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

const (
	// secretKey is where the nodes find what they share.
	secretKey = "inbox:secret"
	// retryEvery is how soon what failed is tried again.
	retryEvery = 250 * time.Millisecond
)

// classify tells whether an error means that the store is away, or full. What
// is neither is a store that does not do what it is told.
func classify(err error) (unavailable, full bool) {
	answer, ok := rueidis.IsRedisErr(err)
	if !ok {
		return !rueidis.IsParseErr(err), false
	}
	return classifyText(answer.Error())
}

// classifyText reads what Redis says; the client cuts a leading «ERR » off.
// Version 6 tells what a command within a script said behind the script's own error.
func classifyText(text string) (unavailable, full bool) {
	text = strings.TrimPrefix(text, "ERR ")
	if at := strings.LastIndex(text, ": -"); at >= 0 && strings.HasPrefix(text, "Error running script") {
		text = text[at+len(": -"):]
	}
	word, _, _ := strings.Cut(text, " ")
	switch word {
	case "OOM":
		return false, true
	case "LOADING", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "TRYAGAIN", "BUSY", "MOVED", "ASK", "NOREPLICAS", "MISCONF", "NOAUTH", "NOPERM", "ACL", "WRONGPASS", "max":
		return true, false
	}
	return false, false
}

// run finds the store, and keeps in touch with it until ctx ends, or until it
// turns out to be another one.
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
	s.log.Info("the store is here", "store", s.address, "kind", string(sess.Mode()), "sealed", sess.aead != nil)
	var wg sync.WaitGroup
	wg.Go(func() { s.listen(ctx, sess) })
	s.refreshUsage(ctx, sess)
	if ctx.Err() == nil {
		s.outages.Add(1) // it is another store now
	}
	s.session.Store(nil)
	cancel()
	wg.Wait()
}

// warnOfEviction warns of a store that drops what it holds when it is full.
func (s *Store) warnOfEviction(ctx context.Context, sess *session) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := sess.Do(ctx, sess.B().Info().Section("memory").Build()).ToString()
	if err == nil && !strings.Contains(info, "maxmemory_policy:noeviction") && !strings.Contains(info, "maxmemory:0\r") {
		s.log.Warn("the store drops mailboxes when its memory is full; set maxmemory-policy noeviction", "store", s.address)
	}
}

// connect tries until it succeeds, or ctx ends.
func (s *Store) connect(ctx context.Context) *session {
	lastLogged := ""
	for ctx.Err() == nil {
		sess, err := s.dial(ctx)
		if err == nil {
			return sess
		}
		if reason := err.Error(); reason != lastLogged { // each reason once
			lastLogged = reason
			s.log.Warn("waiting for the store", "store", s.address, "err", err)
		}
		pause(ctx, retryEvery)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (s *Store) dial(ctx context.Context) (*session, error) {
	client, err := rueidis.NewClient(s.clientOption)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	sess := &session{Client: client, cluster: client.Mode() == rueidis.ClientModeCluster, recheckEvery: recheckSingleEvery}
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

// errSecretMismatch says that the nodes of a store do not agree.
var errSecretMismatch = errors.New("its nodes do not share one key: give all the same -store-key-file, or none")

// secret returns what keys this store's hashes: our own key, or a secret that
// the first node put into the store. With a key of our own the store holds
// something to tell by whether all nodes have the same.
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
		return nil, fmt.Errorf("%s in the store is damaged; when no node runs, delete it", secretKey)
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

// loadOrStoreSecret stores text unless there is one, and returns what is there, and
// whether there was none.
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

// checkIdentity puts the secret back that a FLUSHALL took. It is false when
// somebody was faster, with another one: then all hashes are different.
func (s *Store) checkIdentity(ctx context.Context, sess *session) bool {
	stored, emptied, err := s.loadOrStoreSecret(ctx, sess, sess.identity)
	if emptied {
		s.log.Warn("the store was emptied; all mailboxes are gone", "store", s.address)
		s.tasks.Go(func() { s.waiters.wakeAll(ctx) })
	}
	if err != nil || stored == sess.identity {
		return true
	}
	s.log.Warn("the store was emptied and given another secret; connecting anew", "store", s.address)
	return false
}
