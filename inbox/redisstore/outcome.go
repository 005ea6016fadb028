package redisstore

import (
	"context"
	"errors"
	"time"

	"github.com/redis/rueidis"
)

// Outcome classifies how a command ended, for metrics; see [Config].Observe.
type Outcome uint8

const (
	Answered     Outcome = iota
	Unavailable          // no reply in time, or the store temporarily refused all commands
	Full                 // the memory of the store is exhausted
	Refused              // the store refused a command that inbox requires
	Unreplicated         // too few replicas acknowledged it, or too many steps were waiting for them
	NumOutcomes          // number of outcomes
)

// String returns the outcome as one lower-case word.
func (o Outcome) String() string {
	return [...]string{"answered", "unavailable", "full", "refused", "unreplicated"}[o]
}

// Outages returns how often the store, or a part of it, became unavailable since the
// first connection.
func (s *Store) Outages() int64 { return s.outages.Load() }

// observeOutcome reports a command that was sent at began. A command that its caller
// canceled says nothing about the store and is not reported.
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
