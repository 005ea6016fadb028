// Package query parses the query strings of the mailbox.
package query

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"inbox/inbox/internal/names"
	"inbox/internal/problem"
)

// Query is a parsed query string.
type Query struct {
	// To is the recipient; ParseRecipient checks it.
	To                         string
	After, UpTo                uint64
	Wait                       time.Duration
	HasAfter, HasUpTo, HasWait bool
	// Client is empty if the request has none.
	Client string
	Resume bool

	recipients int // how often the parameter to occurs
}

// WaitOr returns the parameter wait, or a default without it.
func (q *Query) WaitOr(other time.Duration) time.Duration {
	if q.HasWait {
		return q.Wait
	}
	return other
}

// maxClientBytes is the length of the parameter client; a UUID has 36 characters.
const maxClientBytes = 64

// unidentified is the ID of all clients without the parameter client.
const unidentified = 1

// ClientID returns the ID of the client, which is never zero and the same on all nodes of a store.
func (q *Query) ClientID() uint64 {
	if q.Client == "" {
		return unidentified
	}
	sum := sha256.Sum256([]byte(q.Client))
	return max(unidentified+1, binary.BigEndian.Uint64(sum[:]))
}

// Value returns the parameter of a query string, undecoded, or "" without one. It is for values that
// need no encoding.
func Value(raw, name string) string {
	for pair := range strings.SplitSeq(raw, "&") {
		if key, value, _ := strings.Cut(pair, "="); key == name {
			return value
		}
	}
	return ""
}

// Parse parses the parameters of the protocol and ignores others. It caps waits. The error is a
// problem.
func Parse(raw string, maxWait time.Duration) (Query, error) {
	var q Query
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		key, value, _ := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(value)
		if err != nil {
			return q, problem.BadRequest("the query", errors.New("has a broken percent-encoding"))
		}
		if err := q.set(key, value, maxWait); err != nil {
			return q, err
		}
	}
	if q.Resume && q.Client == "" {
		return q, problem.BadRequest("resume", errors.New("needs client"))
	}
	return q, nil
}

func (q *Query) set(key, value string, maxWait time.Duration) error {
	switch key {
	case "to":
		q.To = value
		q.recipients++
	case "wait":
		seconds, err := ParseID(value)
		if err != nil || q.HasWait {
			return problem.BadRequest("wait", errors.New("must be whole seconds, once"))
		}
		q.Wait, q.HasWait = capWait(seconds, maxWait), true
	case "after":
		id, err := ParseID(value)
		if err != nil && value != "" || q.HasAfter {
			return problem.BadRequest("after", errors.New("must be the ID of a message, or empty, once"))
		}
		q.After, q.HasAfter = id, true
	case "upTo":
		id, err := ParseID(value)
		if err != nil || q.HasUpTo {
			return problem.BadRequest("upTo", errors.New("must be the ID of a message, once"))
		}
		q.UpTo, q.HasUpTo = id, true
	case "client":
		if !isClientID(value) || q.Client != "" {
			return problem.BadRequest("client", errors.New("must be 1 to 64 letters, digits, hyphens or underscores, once"))
		}
		q.Client = value
	case "resume":
		if value != "1" || q.Resume {
			return problem.BadRequest("resume", errors.New("must be 1, once"))
		}
		q.Resume = true
	}
	return nil
}

func isClientID(s string) bool {
	return s != "" && len(s) <= maxClientBytes && strings.IndexFunc(s, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_'
	}) < 0
}

// ParseRecipient replaces the parameter to by the name that it stands for.
func (q *Query) ParseRecipient() error {
	if q.recipients != 1 {
		return problem.BadRequest("to", errors.New("must be in the query once, as in ?to=bob"))
	}
	name, err := names.Parse(q.To)
	if err != nil {
		return problem.BadRequest("to", err)
	}
	q.To = name
	return nil
}

// ParseID parses the ID of a message. One that is too large becomes the largest.
func ParseID(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return math.MaxUint64, nil
	}
	return n, err
}

func capWait(seconds uint64, limit time.Duration) time.Duration {
	if seconds > uint64(limit/time.Second) {
		return limit
	}
	return time.Duration(seconds) * time.Second
}
