package redisstore

import (
	"fmt"
	"strings"

	"inbox/inbox"

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

var (
	// errUnreplicated reports a step that was executed, but can be lost in a failover.
	errUnreplicated = fmt.Errorf("%w: too few replicas acknowledged the change", inbox.ErrStoreUnavailable)
	// errTooManyWaits reports a step that was not executed.
	errTooManyWaits = fmt.Errorf("%w: too many requests are waiting for replicas", inbox.ErrStoreUnavailable)
)

// classify reports whether an error means that the store is unavailable or full. If
// neither, the store refuses a command that inbox requires.
func classify(err error) (unavailable, full bool) {
	answer, ok := rueidis.IsRedisErr(err)
	if !ok {
		return !rueidis.IsParseErr(err), false
	}
	return classifyText(answer.Error())
}

// classifyText classifies the text of a Redis error; the client removes the prefix "ERR
// ". Redis 6 embeds the error of a command in that of the script that ran it.
func classifyText(text string) (unavailable, full bool) {
	text = strings.TrimPrefix(text, "ERR ")
	if at := strings.LastIndex(text, ": -"); at >= 0 && strings.HasPrefix(text, "Error running script") {
		text = text[at+len(": -"):]
	}
	word, _, _ := strings.Cut(text, " ")
	switch word {
	case "OOM":
		return false, true
	case "LOADING", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "TRYAGAIN", "BUSY", "MOVED", "ASK",
		"NOREPLICAS", "MISCONF", "NOAUTH", "NOPERM", "ACL", "WRONGPASS", "max":
		return true, false
	}
	return false, false
}
