package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"inbox/inbox"

	"github.com/redis/rueidis"
)

// do executes one step, applies the changes of sums in its reply to the ledger, and
// returns the rest of the reply. Connection failures and refusals of the server are
// ErrStoreUnavailable, exhausted memory is ErrStoreFull.
func (s *Store) do(
	ctx context.Context, sess *session, op string, locations []location, reserved reservation, args ...string,
) ([]rueidis.RedisMessage, error) {
	defer s.ledger.release(reserved)
	if s.session.Load() != sess { // replaced by another session
		return nil, s.errUnavailable()
	}
	keys := make([]string, len(locations))
	for i, loc := range locations {
		if s.unavailable[loc.bucket].Load() {
			return nil, s.errUnavailable()
		}
		keys[i] = bucketKey(loc.bucket)
	}
	argv := make([]string, 0, 3+len(args))
	argv = append(argv, op, strconv.FormatInt(s.limits.Timeout.Milliseconds(), 10), s.node)
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	began := time.Now()
	answer, err := s.step(callCtx, sess, op, locations, keys, append(argv, args...))
	s.observeOutcome(ctx, began, err)
	if err == errTooManyWaits {
		return nil, err
	}
	if err != nil && err != errUnreplicated {
		return nil, s.storeError(ctx, sess, locations, err)
	}
	if len(answer) < 2 {
		return nil, errUnexpectedReply
	}
	if err := s.ledger.apply(answer[0]); err != nil {
		return nil, err
	}
	return answer[1:], err
}

func (s *Store) step(
	ctx context.Context, sess *session, op string, locations []location, keys, argv []string,
) ([]rueidis.RedisMessage, error) {
	if s.replicas > 0 && op != "discard" { // a discard follows the response: no client waits for its result
		part := 0
		if sess.cluster {
			part = locations[0].bucket
		}
		return s.runReplicated(ctx, sess, op, part, keys, argv)
	}
	return s.script.Exec(ctx, sess, keys, argv).ToArray()
}

// storeError translates an error of the client and marks the buckets of an unavailable
// store.
func (s *Store) storeError(ctx context.Context, sess *session, locations []location, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if unavailable, full := classify(err); full {
		return fmt.Errorf("%w: store memory exhausted", inbox.ErrStoreFull)
	} else if !unavailable {
		return fmt.Errorf("redisstore: %w", err)
	}
	for _, loc := range locations {
		s.unavailable[loc.bucket].Store(s.session.Load() == sess)
	}
	return fmt.Errorf("%w: %s: %w", inbox.ErrStoreUnavailable, s.address, err)
}

// observeOutcome reports a command that was sent at began. A command that its caller
// canceled says nothing about the store and is not reported.
func (s *Store) observeOutcome(ctx context.Context, began time.Time, err error) {
	if s.observe != nil && (err == nil || !errors.Is(ctx.Err(), context.Canceled)) {
		s.observe(outcomeOf(err), time.Since(began))
	}
}

// scriptCall is a call of mailbox.lua with one bucket and the arguments op and more.
type scriptCall struct {
	bucket int
	args   []string
}

// runScripts runs scripts in one pipeline.
func (s *Store) runScripts(ctx context.Context, sess *session, calls []scriptCall) []rueidis.RedisResult {
	commands := make(rueidis.Commands, len(calls))
	argv := func(c scriptCall) []string {
		return append([]string{c.args[0], strconv.FormatInt(s.limits.Timeout.Milliseconds(), 10), s.node}, c.args[1:]...)
	}
	for i, c := range calls {
		commands[i] = sess.B().Evalsha().Sha1(scriptSHA).Numkeys(1).Key(bucketKey(c.bucket)).Arg(argv(c)...).Build()
	}
	results := sess.DoMulti(ctx, commands...)
	for i, result := range results {
		if redisErr, ok := rueidis.IsRedisErr(result.Error()); ok && redisErr.IsNoScript() {
			results[i] = s.script.Exec(ctx, sess, []string{bucketKey(calls[i].bucket)}, argv(calls[i]))
		}
	}
	return results
}
