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
func classify(err error) (away, full bool) {
	answer, ok := rueidis.IsRedisErr(err)
	if !ok {
		return !rueidis.IsParseErr(err), false
	}
	return classifyText(answer.Error())
}

// classifyText reads what Redis says; the client cuts a leading «ERR » off.
// Version 6 tells what a command within a script said behind the script's own error.
func classifyText(text string) (away, full bool) {
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
		if l := s.connect(ctx); l != nil {
			s.serve(ctx, l)
		}
	}
}

func (s *Store) serve(ctx context.Context, l *link) {
	defer l.Close()
	ctx, cancel := context.WithCancel(ctx)
	s.link.Store(l)
	s.warnOfEviction(ctx, l)
	s.log.Info("the store is here", "store", s.address, "kind", string(l.Mode()), "sealed", l.messages != nil)
	var wg sync.WaitGroup
	wg.Go(func() { s.listen(ctx, l) })
	s.keepBooks(ctx, l)
	if ctx.Err() == nil {
		s.outages.Add(1) // it is another store now
	}
	s.link.Store(nil)
	cancel()
	wg.Wait()
}

// warnOfEviction warns of a store that drops what it holds when it is full.
func (s *Store) warnOfEviction(ctx context.Context, l *link) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	info, err := l.Do(ctx, l.B().Info().Section("memory").Build()).ToString()
	if err == nil && !strings.Contains(info, "maxmemory_policy:noeviction") && !strings.Contains(info, "maxmemory:0\r") {
		s.log.Warn("the store drops mailboxes when its memory is full; set maxmemory-policy noeviction", "store", s.address)
	}
}

// connect tries until it succeeds, or ctx ends.
func (s *Store) connect(ctx context.Context) *link {
	said := ""
	for ctx.Err() == nil {
		l, err := s.dial(ctx)
		if err == nil {
			return l
		}
		if why := err.Error(); why != said { // each reason once
			said = why
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

func (s *Store) dial(ctx context.Context) (*link, error) {
	client, err := rueidis.NewClient(s.client)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	l := &link{Client: client, cluster: client.Mode() == rueidis.ClientModeCluster, recheck: recheckAlone}
	if l.cluster {
		l.recheck = recheck
	}
	err = checkEngines(ctx, client)
	var secret []byte
	if err == nil {
		secret, err = s.secret(ctx, l)
	}
	if err == nil {
		l.vault = newVault(secret, s.key != nil)
		err = s.firstBooks(ctx, l)
	}
	if err == nil {
		err = s.speak(ctx, l)
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	return l, nil
}

// errOtherSecret says that the nodes of a store do not agree.
var errOtherSecret = errors.New("its nodes do not share one key: give all the same -store-key-file, or none")

// secret returns what keys this store's hashes: our own key, or a secret that
// the first node put into the store. With a key of our own the store holds
// something to tell by whether all nodes have the same.
func (s *Store) secret(ctx context.Context, l *link) ([]byte, error) {
	kind, own := "secret ", random(keySize)
	if s.key != nil {
		kind, own = "sealed ", derive(s.key, "check")
	}
	kept, _, err := s.keepSecret(ctx, l, kind+hex.EncodeToString(own))
	if err != nil {
		return nil, err
	}
	text, ok := strings.CutPrefix(kept, kind)
	if !ok {
		return nil, errOtherSecret
	}
	secret, err := hex.DecodeString(text)
	if err != nil || len(secret) != keySize {
		return nil, fmt.Errorf("%s in the store is damaged; when no node runs, delete it", secretKey)
	}
	if s.key == nil {
		l.identity = kept
		return secret, nil
	}
	if subtle.ConstantTimeCompare(secret, own) != 1 {
		return nil, errOtherSecret
	}
	l.identity = kept
	return s.key, nil
}

// keepSecret stores text unless there is one, and returns what is there, and
// whether there was none.
func (s *Store) keepSecret(ctx context.Context, l *link, text string) (kept string, fresh bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = l.Do(ctx, l.B().Set().Key(secretKey).Value(text).Nx().Build()).Error()
	if err != nil && !rueidis.IsRedisNil(err) {
		return "", false, fmt.Errorf("store the secret: %w", err)
	}
	fresh = err == nil
	if kept, err = l.Do(ctx, l.B().Get().Key(secretKey).Build()).ToString(); err != nil {
		return "", false, fmt.Errorf("read the secret: %w", err)
	}
	return kept, fresh, nil
}

// checkIdentity puts the secret back that a FLUSHALL took. It is false when
// somebody was faster, with another one: then all hashes are different.
func (s *Store) checkIdentity(ctx context.Context, l *link) bool {
	kept, emptied, err := s.keepSecret(ctx, l, l.identity)
	if emptied {
		s.log.Warn("the store was emptied; all mailboxes are gone", "store", s.address)
		s.done.Go(func() { s.waiters.wakeAll(ctx) })
	}
	if err != nil || kept == l.identity {
		return true
	}
	s.log.Warn("the store was emptied and given another secret; connecting anew", "store", s.address)
	return false
}
