package redisstore

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"inbox/inbox"

	"github.com/redis/rueidis"
)

const (
	// secretKey is where the nodes find what they share.
	secretKey = "inbox:secret"
	// refreshEvery is how often a node asks what the others did, and how long
	// a store that was away may be back unnoticed.
	refreshEvery = time.Second
	retryEvery   = 250 * time.Millisecond
	// refreshShare bounds the time that refreshing a large store takes to a
	// twentieth.
	refreshShare = 20
	// refreshLatest is the longest that a node knows nothing of what others do.
	refreshLatest = time.Minute
	// sweepAtOnce is how many buckets are asked in one pipeline.
	sweepAtOnce = 16
	// reclaimEvery bounds how often a full store is swept for a request, for one
	// who is refused may ask as often as he likes. With more than reclaimMost
	// sums, of which most are payers', that would still be too much work.
	reclaimEvery = 100 * time.Millisecond
	reclaimMost  = 20_000
	// sweepBatch mailboxes are ended in one script.
	sweepBatch = 20
	// deaf is how long a subscription may be silent; it hears this node each second.
	deaf = 4 * time.Second
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

// classifyText reads what Redis says. Version 6 tells what a command within a
// script said behind the script's own error.
func classifyText(text string) (away, full bool) {
	if at := strings.LastIndex(text, ": -"); at >= 0 && strings.HasPrefix(text, "ERR Error running script") {
		text = text[at+len(": -"):]
	}
	word, _, _ := strings.Cut(strings.TrimPrefix(text, "ERR "), " ")
	switch word {
	case "OOM":
		return false, true
	case "LOADING", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "TRYAGAIN", "BUSY", "MOVED", "ASK", "NOREPLICAS", "MISCONF", "NOAUTH", "NOPERM", "WRONGPASS", "max":
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
	secret, err := s.secret(ctx, l)
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

// listen hears what happens to mailboxes that somebody waits for here. After
// each time that it was deaf everybody looks again, so nothing is missed.
func (s *Store) listen(ctx context.Context, l *link) {
	for ctx.Err() == nil {
		err := s.subscribe(ctx, l)
		if _, refused := rueidis.IsRedisErr(err); refused {
			s.log.Warn("the store does not tell this server of messages, so they come late", "store", s.address, "err", err)
			pause(ctx, recheck)
		} else if err != nil && ctx.Err() == nil {
			s.log.Debug("the subscription ended", "err", err)
		}
		pause(ctx, retryEvery)
	}
}

func (s *Store) subscribe(ctx context.Context, l *link) error {
	c, release := l.Dedicate()
	defer release()
	begun := make(chan struct{}, 1)
	ended := c.SetPubSubHooks(rueidis.PubSubHooks{
		OnMessage:      func(m rueidis.PubSubMessage) { s.hear(m.Message) },
		OnSubscription: func(rueidis.PubSubSubscription) { notify(begun) },
	})
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := c.Do(asking, c.B().Subscribe().Channel("inbox:n:"+s.node).Build()).Error(); err != nil {
		return err
	}
	silence, speak := time.NewTimer(deaf), time.NewTicker(refreshEvery)
	defer silence.Stop()
	defer speak.Stop()
	for {
		select {
		case <-begun:
			s.done.Go(func() { s.waiters.wakeAll(ctx) })
		case <-speak.C:
			_ = s.speak(ctx, l) // if it is not heard, silence tells
		case <-s.heard:
			silence.Reset(deaf)
		case err := <-ended:
			return err
		case <-silence.C:
			return errors.New("it is silent")
		case <-ctx.Done():
			return nil
		}
	}
}

// speak lets this node hear itself, over the whole way that a wake-up takes.
func (s *Store) speak(ctx context.Context, l *link) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := l.Do(ctx, l.B().Publish().Channel("inbox:n:"+s.node).Message("!").Build()).Error(); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// hear takes one message of the channel: "wTAG" to wake, "sSEQ TAG" to
// supersede, "!" is this node's own. Anything else is nothing of ours.
func (s *Store) hear(text string) {
	if text == "" {
		return
	}
	switch rest := text[1:]; text[0] {
	case 'w':
		s.waiters.wake(rest)
	case 's':
		number, tag, _ := strings.Cut(rest, " ")
		if seq, err := strconv.ParseUint(number, 10, 64); err == nil {
			s.waiters.supersede(tag, seq)
		}
	case '!':
		notify(s.heard)
	}
}

// books is what the store said of its sums when it was last asked.
type books struct {
	mu    sync.Mutex // held while it is asked
	last  [buckets]sums
	ended time.Time
	size  atomic.Int64 // sums of all buckets
	why   error        // that some of them did not answer
}

// keepBooks asks the store again and again, and notes which of it is there. It
// returns when ctx ends, or the store has another secret.
func (s *Store) keepBooks(ctx context.Context, l *link) {
	wasAway, took := false, time.Duration(0)
	for ctx.Err() == nil && s.checkIdentity(ctx, l) {
		away := s.Ready() != nil
		switch {
		case away && !wasAway:
			s.log.Warn("the store, or a part of it, is away", "store", s.address, "err", s.whyAway())
		case !away && wasAway:
			s.log.Info("the store is back", "store", s.address)
			s.done.Go(func() { s.waiters.wakeAll(ctx) })
		}
		wasAway = away
		s.rest(ctx, max(refreshEvery, refreshShare*took))
		s.books.mu.Lock()
		took = s.readBooks(ctx, l)
		s.books.mu.Unlock()
	}
}

// rest pauses, but not for long once a request found the store away: whether it
// is back is only found out by asking.
func (s *Store) rest(ctx context.Context, d time.Duration) {
	for end := time.Now().Add(min(d, refreshLatest)); ctx.Err() == nil && time.Now().Before(end); {
		pause(ctx, min(retryEvery, time.Until(end)))
		if s.Ready() != nil {
			return
		}
	}
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

// firstBooks is nil when every part of the store does what it is told.
func (s *Store) firstBooks(ctx context.Context, l *link) error {
	s.books.mu.Lock()
	defer s.books.mu.Unlock()
	s.readBooks(ctx, l)
	if s.books.why != nil {
		return fmt.Errorf("ask for its sums: %w", s.books.why)
	}
	return nil
}

func (s *Store) whyAway() error {
	s.books.mu.Lock()
	defer s.books.mu.Unlock()
	return s.books.why
}

// partsAway is Ready, of a store that was found.
func (s *Store) partsAway() error {
	for i := range s.away {
		if s.away[i].Load() {
			return fmt.Errorf("%w: a part of %s", inbox.ErrStoreAway, s.address)
		}
	}
	return nil
}

// reclaim sweeps for a request that met a limit, unless that was just done, or
// the store is so large that it waits for the next look.
func (s *Store) reclaim(ctx context.Context) {
	l := s.link.Load()
	if l == nil || s.books.size.Load() > reclaimMost {
		return
	}
	s.books.mu.Lock()
	defer s.books.mu.Unlock()
	if time.Since(s.books.ended) >= reclaimEvery {
		s.readBooks(ctx, l)
	}
}

// readBooks sweeps every bucket and takes in its sums. A bucket that does not
// answer is away, and counts with what it last said. It returns what it took.
func (s *Store) readBooks(ctx context.Context, l *link) time.Duration {
	began := time.Now()
	s.ledger.begin()
	var rest sync.WaitGroup
	var parts [buckets / sweepAtOnce]error
	late := false
	for i := range parts {
		part := func() { parts[i] = s.readPart(ctx, l, i*sweepAtOnce, began) }
		if late { // not one time-out after the other
			rest.Go(part)
			continue
		}
		part()
		late = parts[i] != nil
	}
	rest.Wait()
	s.books.why = cmp.Or(parts[:]...)
	s.ledger.replace(&s.books.last)
	size := 0
	for i := range s.books.last {
		size += len(s.books.last[i].held)
	}
	s.books.size.Store(int64(size))
	s.books.ended = time.Now()
	return s.books.ended.Sub(began)
}

// readPart reads the books of some buckets. It is a part of them that has to
// come in time: those of a million payers are 40 MB in all.
func (s *Store) readPart(ctx context.Context, l *link, from int, began time.Time) (err error) {
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	var wanted []int
	for i := range sweepAtOnce {
		wanted = append(wanted, from+i)
	}
	for again := true; again; again = len(wanted) > 0 && err == nil && time.Since(began) < patience {
		wanted, err = s.sweep(asking, l, wanted)
	}
	return err
}

// sweep asks some buckets and returns those that have more to sweep, and the
// last error of those that did not answer.
func (s *Store) sweep(ctx context.Context, l *link, wanted []int) (more []int, why error) {
	commands := make(rueidis.Commands, len(wanted))
	for i, bucket := range wanted {
		commands[i] = l.B().Evalsha().Sha1(scriptSHA).Numkeys(1).Key(bucketKey(bucket)).
			Arg("sweep", strconv.FormatInt(s.limits.Timeout.Milliseconds(), 10), s.node, strconv.Itoa(sweepBatch)).Build()
	}
	for i, result := range l.DoMulti(ctx, commands...) {
		bucket := wanted[i]
		if answer, ok := rueidis.IsRedisErr(result.Error()); ok && answer.IsNoScript() {
			result = s.script.Exec(ctx, l, []string{bucketKey(bucket)},
				[]string{"sweep", strconv.FormatInt(s.limits.Timeout.Milliseconds(), 10), s.node, strconv.Itoa(sweepBatch)})
		}
		n, err := s.swept(bucket, result)
		if err != nil {
			why = err
		} else if n == sweepBatch {
			more = append(more, bucket)
		}
	}
	return more, why
}

// swept takes in what one bucket answered, and returns how many mailboxes were
// looked at in it. One that does anything else than what it is asked is away, as
// far as requests are concerned.
func (s *Store) swept(bucket int, result rueidis.RedisResult) (int64, error) {
	n, held, err := readSweep(result)
	s.away[bucket].Store(err != nil)
	if err == nil {
		s.books.last[bucket] = held
	}
	return n, err
}

func readSweep(result rueidis.RedisResult) (n int64, held sums, err error) {
	answer, err := result.ToArray()
	if err != nil {
		return 0, held, err
	}
	if len(answer) != 2 {
		return 0, held, errGarbage
	}
	if n, err = answer[0].AsInt64(); err != nil {
		return 0, held, errGarbage
	}
	held, err = readSums(answer[1])
	return n, held, err
}
