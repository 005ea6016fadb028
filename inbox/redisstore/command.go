package redisstore

import (
	"context"
	"fmt"
	"time"

	"inbox/inbox"

	"github.com/redis/rueidis"
)

// Do executes one command on behalf of another package that keeps data in the same
// store: the words of the command, a key and its arguments. Keys must begin with
// [Prefix] and must not collide with those of mailboxes. The answer is nil, a string,
// an int64 or a list of these. Do waits as long as ctx allows; while disconnected it
// returns [inbox.ErrStoreUnavailable] at once.
func (s *Store) Do(ctx context.Context, command []string, key string, args ...string) (any, error) {
	sess, err := s.currentSession()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	answer, err := sess.Do(ctx, sess.B().Arbitrary(command...).Keys(key).Args(args...).Build()).ToAny()
	s.observeOutcome(ctx, began, err)
	if rueidis.IsRedisNil(err) {
		return nil, nil
	}
	if unavailable, _ := classify(err); err != nil && unavailable {
		return nil, fmt.Errorf("%w: %w", inbox.ErrStoreUnavailable, err)
	}
	return answer, err
}

// Prefix begins all keys of this project.
const Prefix = "inbox:"
