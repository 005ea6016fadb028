package redisstore

import (
	"context"
	"strconv"
	"time"

	"inbox/inbox"

	"github.com/redis/rueidis"
)

// Watch implements [inbox.Store]. It does not wait for the store: [Store.keepWatches]
// registers the watch there.
func (s *Store) Watch(c inbox.Claim, notify func(error)) (stop func(), err error) {
	sess, err := s.currentSession()
	if err != nil {
		return nil, err
	}
	loc := sess.locate(c.Name)
	if s.unavailable[loc.bucket].Load() {
		return nil, s.errUnavailable()
	}
	w := &watch{sess: sess, loc: loc, epoch: c.Epoch, receiver: c.Receiver, notify: notify}
	s.watches.add(w, watchNew)
	return func() { s.watches.stop(w) }, nil
}

// keepWatches registers, renews and ends the watches of this node at the store, until
// ctx ends.
func (s *Store) keepWatches(ctx context.Context, sess *session) {
	s.watches.endAll(sess, inbox.ErrClaimEnded) // those that were added as the last session ended
	every := min(s.limits.Timeout/keepsPerTimeout, sess.recheckEvery)
	tick := time.NewTicker(max(min(every/4, time.Second), time.Millisecond))
	defer tick.Stop()
	for {
		scan := false
		select {
		case <-s.watches.wanted:
		case <-tick.C:
			scan = true
		case <-ctx.Done():
			return
		}
		byBucket := s.watches.takeDue(time.Now(), scan)
		if len(byBucket) > 0 {
			s.runWatchSteps(ctx, sess, byBucket, every)
		}
	}
}

// runWatchSteps takes the steps, in batches.
func (s *Store) runWatchSteps(ctx context.Context, sess *session, byBucket map[int][]watchStep, every time.Duration) {
	var calls []scriptCall
	var batches [][]watchStep
	flush := func() {
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		for i, result := range s.runScripts(callCtx, sess, calls) {
			s.finishWatchSteps(batches[i], result, every)
		}
		calls, batches = calls[:0], batches[:0]
	}
	for bucket, steps := range byBucket {
		for len(steps) > 0 {
			batch := steps[:min(len(steps), watchesPerCall)]
			steps = steps[len(batch):]
			args := []string{"watch"}
			for _, step := range batch {
				args = append(args, step.loc.tag, strconv.FormatUint(step.epoch, 10), step.mode,
					strconv.FormatUint(step.seq, 10), strconv.FormatUint(step.receiver, 10))
			}
			calls, batches = append(calls, scriptCall{bucket, args}), append(batches, batch)
			if len(calls) == callsPerPipeline {
				flush()
			}
		}
	}
	if len(calls) > 0 {
		flush()
	}
}

// finishWatchSteps applies the answer to a batch. Steps that failed are taken again,
// except stops: the claim then expires somewhat earlier.
func (s *Store) finishWatchSteps(batch []watchStep, result rueidis.RedisResult, every time.Duration) {
	statuses, err := s.parseWatch(result, len(batch))
	if err != nil {
		s.log.Debug("renew watches", "err", err)
		s.watches.reschedule(batch, retryEvery, false)
		return
	}
	s.watches.reschedule(batch, every, true)
	for i, step := range batch {
		if step.mode == watchStop {
			continue
		}
		is := func(w *watch) bool { return w == step.watch }
		switch statuses[i] {
		case "message":
			step.notify(nil)
		case "over":
			s.watches.end(step.loc.tag, inbox.ErrClaimEnded, is)
		case "superseded":
			s.watches.end(step.loc.tag, inbox.ErrSuperseded, is)
		}
	}
}

func (s *Store) parseWatch(result rueidis.RedisResult, want int) (statuses []string, err error) {
	answer, err := result.ToArray()
	if err != nil {
		return nil, err
	}
	if len(answer) != 2 {
		return nil, errUnexpectedReply
	}
	if err := s.ledger.apply(answer[0]); err != nil {
		return nil, err
	}
	if statuses, err = answer[1].AsStrSlice(); err != nil || len(statuses) != want {
		return nil, errUnexpectedReply
	}
	return statuses, nil
}
