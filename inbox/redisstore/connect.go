package redisstore

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"inbox/inbox"

	"github.com/redis/rueidis"
)

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
