// Package inbox is the heart of the signaling server: named mailboxes in
// which WebRTC peers leave each other offers, answers and ICE candidates.
//
// A mailbox belongs to whoever first used its name with a password, for as
// long as the owner keeps asking. Anyone who knows the name, and has a name of
// its own, may leave messages; only the owner reads them. [Handler] speaks the
// HTTP protocol, a [Store] keeps the mailboxes, package memstore is the engine
// that needs nothing but memory.
//
// The package knows nothing of TLS, of limits per address or of pages. What a
// caller must know: a message leaves its mailbox only when it is discarded,
// never because it was read.
package inbox

import (
	"context"
	"errors"
	"time"
)

// Errors that a [Store] returns. They may be wrapped; test with errors.Is.
var (
	// ErrWrongKey is returned by Open: the name is claimed with another key.
	ErrWrongKey = errors.New("the name is in use with another password")
	// ErrTooManyInboxes is returned by Open: the store holds as many
	// mailboxes as it may. It ends when some expire.
	ErrTooManyInboxes = errors.New("the server holds as many inboxes as it may")
	// ErrNoInbox is returned by Put, and by an Open that may not claim: nobody
	// claims the name.
	ErrNoInbox = errors.New("no such inbox")
	// ErrInboxFull is returned by Put: the recipient has as many unread
	// messages as one mailbox may hold.
	ErrInboxFull = errors.New("the inbox is full")
	// ErrStoreFull is returned by Put: the store holds as many bytes as it may.
	ErrStoreFull = errors.New("the server holds as many messages as it may")
	// ErrPayerFull is returned by Open and Put: the payer holds as many
	// mailboxes, or queued bytes, as one payer may.
	ErrPayerFull = errors.New("this address holds as much as one address may")
	// ErrEmpty is returned by Next: no message came while it waited.
	ErrEmpty = errors.New("the inbox is empty")
	// ErrClaimEnded is returned for a claim that was given up or expired,
	// whether or not the name has been claimed anew since.
	ErrClaimEnded = errors.New("the claim is over")
	// ErrStopping is returned by every method of a store that was closed to be
	// saved, and ends what waits when a [Handler] is told to stop.
	ErrStopping = errors.New("the server is stopping")
	// ErrSuperseded is returned by the Next of an engine that several
	// processes share: somebody waits for the same mailbox in another one, and
	// came later.
	ErrSuperseded = errors.New("a newer poll took over")
	// ErrStoreUnavailable is returned by every method of an engine over a network
	// that cannot be reached now. It may or may not have done what was asked.
	ErrStoreUnavailable = errors.New("the store cannot be reached")
)

// Key stands for a password: a keyed hash of it, so that no store ever holds
// what a person typed. Keys are compared in constant time.
type Key [32]byte

// Claim is the right to read one mailbox, from the Open that made it until it
// is given up or expires. It is a value; a stale one is harmless, every method
// answers it with [ErrClaimOver].
type Claim struct {
	Name string
	// Epoch tells this claim from earlier and later ones of the same name.
	Epoch uint64
	// Created is whether the Open that returned this value made the claim.
	Created bool
}

// Message is what one peer left for another. Its Body belongs to the store
// from Put on, and is shared with every reader: nobody may change it.
type Message struct {
	// ID orders the messages of a mailbox. The store assigns it at Put; it
	// grows within a claim and never returns in a later one.
	ID uint64
	// From is the sender's name.
	From string
	// ContentType is one of the few media types that are handed on as sent,
	// or empty for application/octet-stream.
	ContentType string
	Body        []byte
	// Payer is whose budget the queued bytes count against.
	Payer Payer
}

// Stats is what a store holds at one moment, expired mailboxes that were
// not freed yet included.
type Stats struct {
	Inboxes int64
	// Messages that wait to be read, or for their recipient, and what they
	// count for in the budgets.
	Queued, QueuedBytes int64
}

// Store keeps mailboxes. All methods may be called concurrently; what they do
// to one mailbox happens in one order, seen by all.
//
// A claim ends when its timeout, a property of the store, has passed since the
// owner's last Open or since its last Next returned. Expiry is exact: a claim that is over is never seen
// again, whether or not its memory was freed.
//
// Any method may also return the context's error or one of the engine's own
// (an engine over a network is sometimes away); an error always means that
// nothing was changed, or, from an engine over a network, that it may not have been.
type Store interface {
	// Open claims the name with the key, or checks the key of the claim that
	// exists, and restarts its timeout. A new mailbox counts against payer; nil
	// is for a client that may not make one.
	//
	// Errors: ErrWrongKey, ErrTooManyInboxes, ErrPayerFull; without a payer
	// ErrNoInbox.
	Open(ctx context.Context, name string, key Key, payer *Payer) (Claim, error)

	// Put appends m, whose ID it assigns, to the mailbox named to. When
	// nobody claims the name, it waits up to wait for somebody to.
	//
	// Errors: ErrNoInbox, ErrInboxFull, ErrStoreFull, ErrPayerFull.
	Put(ctx context.Context, to string, m Message, wait time.Duration) error

	// Next forgets the messages up to and including the ID ack, unless ack
	// is above every ID that this claim's messages were given, and returns
	// the oldest that is left, without removing it. When none is left it
	// waits up to wait for one. Callers that wait at the same time are all
	// given the same message; whoever wants turns takes them above the store.
	//
	// Errors: ErrEmpty, ErrClaimOver. A Next that returns an error took no
	// message; what ack acknowledged stays forgotten.
	Next(ctx context.Context, c Claim, ack uint64, wait time.Duration) (Message, error)

	// Discard forgets the messages up to and including the ID upTo.
	//
	// Errors: ErrClaimOver.
	Discard(ctx context.Context, c Claim, upTo uint64) error

	// Close gives the name up, and all its messages.
	//
	// Errors: ErrClaimOver.
	Close(ctx context.Context, c Claim) error
}

// CombinedStore is a [Store] to which each call is a journey, and that can take two
// steps in one. A [Handler] uses them where it can.
type CombinedStore interface {
	Store

	// OpenPut is Open, of a client that may not make a mailbox, and then Put
	// without a wait. The claim is the zero one when it was Open that failed.
	OpenPut(ctx context.Context, name string, key Key, to string, m Message) (Claim, error)

	// OpenNext is Open, likewise, and then Next without a wait.
	OpenNext(ctx context.Context, name string, key Key, ack uint64) (Claim, Message, error)
}
