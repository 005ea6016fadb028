package redisstore

import (
	"context"
	"fmt"
	"time"

	"inbox/inbox"

	"github.com/redis/rueidis"
)

// Do runs one command for others who keep something beside the mailboxes: its
// words, a key, and what follows. Their keys begin with [Prefix] and no
// mailbox's. The answer is nil, a string, an int64 or a list of these. It waits
// as long as ctx allows; without the store it is [inbox.ErrStoreAway] at once.
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

// Prefix is what all keys of this project begin with.
const Prefix = "inbox:"
