package redisstore

import (
	"context"
	"errors"
	"time"

	"github.com/redis/rueidis"
)

// Outcome is how a command ended, for those who count; see [Config].
type Outcome uint8

const (
	Answered     Outcome = iota
	Unavailable          // no answer in time, or the store was refusing everything for the moment
	Full                 // its memory is used up
	Refused              // it does not do what no inbox can do without
	Unreplicated         // too few replicas have it, or it would have had to wait for them too long
	NumOutcomes          // how many there are
)

// String is one lower-case word.
func (o Outcome) String() string {
	return [...]string{"answered", "unavailable", "full", "refused", "unreplicated"}[o]
}

// Outages is how often the store, or a part of it, was noticed to be away since
// it was first there.
func (s *Store) Outages() int64 { return s.outages.Load() }

// observeOutcome observes a command that was sent when it began. One that its sender gave
// up tells nothing of the store.
func (s *Store) observeOutcome(ctx context.Context, began time.Time, err error) {
	if s.observe != nil && (err == nil || !errors.Is(ctx.Err(), context.Canceled)) {
		s.observe(outcomeOf(err), time.Since(began))
	}
}

func outcomeOf(err error) Outcome {
	if err == nil || rueidis.IsRedisNil(err) {
		return Answered
	}
	switch unavailable, full := classify(err); {
	case err == errUnreplicated, err == errTooManyWaits:
		return Unreplicated
	case unavailable:
		return Unavailable
	case full:
		return Full
	}
	return Refused
}
