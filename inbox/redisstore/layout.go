package redisstore

import (
	"crypto/rand"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"errors"
	"strconv"
)

// buckets is the number of partitions of the mailboxes. Each has its own sums and
// lies in one slot of a cluster, so it is also the largest useful number of cluster
// nodes. A change of the value loses the mailboxes of a running store.
const buckets = 128

//go:embed mailbox.lua
var mailboxScript string

var scriptSHA = func() string {
	sum := sha1.Sum([]byte(mailboxScript)) // Redis identifies a script by its SHA-1
	return hex.EncodeToString(sum[:])
}()

// location is the place of a mailbox in the store.
type location struct {
	bucket int
	tag    string
}

func bucketKey(i int) string { return "inbox:{" + strconv.Itoa(i) + "}" }

// errUnexpectedReply reports a reply that mailbox.lua does not produce.
var errUnexpectedReply = errors.New("redisstore: unexpected reply from the store")

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
