// Package topics serves the clients of y-webrtc and of Trystero's ws-relay: a [Handler] connects
// the WebSockets that subscribe to a topic, and copies what is published to all of them. Nothing is
// kept: a frame reaches the members that a topic has when it is published, at most once.
//
// [Topics] is the contract of what knows the members, [Memory] the one of a single process. It is
// no [inbox.Store]: a topic has many readers, no owner and no password.
package topics

import (
	"crypto/sha256"
	"errors"

	"inbox/inbox"
)

// ID identifies a topic. It is a hash, so that a long name takes no more memory than a short one.
type ID [sha256.Size]byte

// NewID returns the ID of a topic. The topics of two protocols have nothing in common, whatever
// their names are.
func NewID(protocol Protocol, name string) ID {
	b := make([]byte, 0, 128) // on the stack, with most names
	return sha256.Sum256(append(append(b, byte(protocol)), name...))
}

// Protocol is the protocol of a connection.
type Protocol byte

// The protocols. That of a connection is unknown until it has subscribed.
const (
	Unknown Protocol = iota
	YWebRTC
	Trystero
	numProtocols
)

// String returns "unknown", "y-webrtc" or "trystero".
func (p Protocol) String() string { return [...]string{"unknown", "y-webrtc", "trystero"}[p] }

// Errors of [Topics] Join. One more is inbox.ErrPayerFull.
var (
	// ErrTopicFull is the error of a topic that has as many members as it can, or as many of the
	// payer.
	ErrTopicFull = errors.New("topics: the topic has too many members")
	// ErrFull is the error of a server that has as many members, of all topics, as it can.
	ErrFull = errors.New("topics: too many members")
)

// Member receives what is published to a topic. It must be comparable.
type Member interface {
	// Deliver takes a frame. It must not wait, nor change the frame, which all members share. It
	// can be called concurrently, and for a moment after Leave.
	Deliver(frame []byte)
}

// Topics knows the members of topics. All methods can be called concurrently.
type Topics interface {
	// Join adds a member to a topic, at the expense of a payer. A member must leave a topic before
	// it joins it again. On an error it has not joined.
	Join(topic ID, payer inbox.Payer, m Member) error
	// Leave removes a member of a topic.
	Leave(topic ID, m Member)
	// Publish delivers a frame to the members of a topic, and returns how many these are. If there
	// is one, it calls frame once with their number. Frames of one caller arrive in their order.
	Publish(topic ID, frame func(members int) []byte) (members int)
	// Len returns how many topics have members, and the sum of their members.
	Len() (topics, members int)
}
