// Package inbox relays messages between WebRTC peers: offers, answers and ICE
// candidates, left in named mailboxes over HTTP.
//
// The first request that uses a name with a password claims the mailbox of
// that name. The claim lasts as long as its owner keeps sending requests. Any
// peer with a name of its own can leave messages in it, only the owner can
// read them. [Handler] implements the HTTP protocol. A [Store] keeps the
// mailboxes: in memory (package memstore), or in Redis for several servers
// (package redisstore).
//
// The package does not do TLS, does not limit requests per address and has no
// web pages. A message leaves its mailbox only when it is discarded, never
// because it was read.
package inbox

import (
	"context"
	"errors"
	"time"

	"inbox/inbox/quota"
)

// Errors of a [Store]. They can be wrapped; test with errors.Is.
var (
	// ErrWrongKey is returned by Open: the name is claimed with another key.
	ErrWrongKey = errors.New("the name is in use with another password")
	// ErrTooManyInboxes is returned by Open: the store is at its limit of
	// mailboxes. It accepts new ones when others expire.
	ErrTooManyInboxes = errors.New("the server is at its limit of inboxes")
	// ErrNoInbox is returned by Put, and by an Open without a payer: the name
	// is not claimed.
	ErrNoInbox = errors.New("no such inbox")
	// ErrInboxFull is returned by Put: the recipient's mailbox is at its limit
	// of unread messages.
	ErrInboxFull = errors.New("the inbox is full")
	// ErrStoreFull is returned by Put: the store is at its limit of bytes.
	ErrStoreFull = errors.New("the server is at its limit of queued messages")
	// ErrPayerFull is returned by Open and Put: the payer is at its limit of
	// mailboxes or queued bytes.
	ErrPayerFull = quota.ErrExceeded
	// ErrEmpty is returned by Next: there is no message.
	ErrEmpty = errors.New("the inbox is empty")
	// ErrOtherReceiver is returned by an OpenNext that resumes: another client
	// was the last one that read the mailbox.
	ErrOtherReceiver = errors.New("another client receives the messages")
	// ErrClaimEnded is returned for a claim that was closed or has expired,
	// whether or not the name has been claimed again since.
	ErrClaimEnded = errors.New("the claim has ended")
	// ErrStopping is returned by every method of a store that has been closed
	// for good, and ends requests that wait when a [Handler] is told to stop.
	ErrStopping = errors.New("the server is stopping")
	// ErrSuperseded ends a watch: a newer receiver of the same mailbox has
	// taken over.
	ErrSuperseded = errors.New("superseded by a newer receiver")
	// ErrStoreUnavailable is returned by every method of an engine over a
	// network that cannot be reached. The step can have been done.
	ErrStoreUnavailable = errors.New("the store is unavailable")
)

// Payer is whom mailboxes and queued bytes count against. Limits says when the mailboxes of a
// store expire and how much it can hold.
type (
	Payer  = quota.Payer
	Limits = quota.Limits
)

// Key stands for a password: a keyed hash of it, so that no store has the
// password itself. Engines compare keys in constant time.
type Key [32]byte

// Claim is the right to read one mailbox, from the Open that made it until it
// is closed or expires. It is a value. A stale one is harmless: every method
// answers it with [ErrClaimEnded].
type Claim struct {
	Name string
	// Epoch distinguishes this claim from earlier and later ones of the name.
	Epoch uint64
	// Token authenticates the claim to an engine whose storage is not trusted.
	// It is zero for other engines.
	Token [16]byte
	// Receiver is the ID of the client as which OpenNext opened the mailbox; zero
	// if Open did.
	Receiver uint64
	// Created reports whether the Open that returned this value made the claim.
	Created bool
}

// Client identifies a client that reads a mailbox among those that do. A mailbox
// remembers its last receiver until the claim ends.
type Client struct {
	// ID is zero for no client: that leaves the last receiver as it is.
	ID uint64
	// Resume refuses the client, with ErrOtherReceiver, if another one was the last
	// receiver: it was away, and must not take over on its own.
	Resume bool
}

// Message is what one peer left for another. From Put on, Body belongs to the
// store and is shared with every reader: it must not be changed.
type Message struct {
	// ID orders the messages of a mailbox. The store assigns it at Put. The IDs of one
	// claim are consecutive, because a stream's window is a difference of two. A later
	// claim never reuses one.
	ID uint64
	// From is the name of the sender.
	From string
	// ContentType is one of the few media types that are passed on as sent, or
	// empty for application/octet-stream.
	ContentType string
	Body        []byte
	// Payer is whom the queued bytes count against.
	Payer Payer
}

// Stats is what a store holds at one moment. Expired mailboxes count until
// their memory is freed.
type Stats struct {
	Inboxes int64
	// Queued is the number of messages that wait to be read, or for their
	// recipient. QueuedBytes is what they count for in [Limits].
	Queued, QueuedBytes int64
}

// Store keeps mailboxes. All methods can be called concurrently. The steps on
// one mailbox happen in one order, which is the same for all callers.
//
// A claim expires when the store's timeout has passed since its last Open, its
// last Next or the end of its last watch. It does not expire while a watch is
// registered. Expiry is exact: an expired claim is never seen again, whether
// or not its memory was freed.
//
// Every method can also return the context's error or an error of the engine,
// such as [ErrStoreUnavailable]. An error means that nothing was changed; from
// an engine over a network, the change can have been made.
type Store interface {
	// Open claims the name with the key, or checks the key of the existing
	// claim, and restarts its timeout. A new mailbox counts against payer.
	// Without a payer (nil), Open claims nothing.
	//
	// Errors: ErrWrongKey, ErrTooManyInboxes, ErrPayerFull; without a payer
	// ErrNoInbox.
	Open(ctx context.Context, name string, key Key, payer *Payer) (Claim, error)

	// Check is Open without a payer that does not restart the timeout of the claim.
	//
	// Errors: ErrWrongKey, ErrNoInbox.
	Check(ctx context.Context, name string, key Key) (Claim, error)

	// Put appends m to the mailbox named to and returns the ID that it assigns.
	// If the name is not claimed, Put waits up to wait for a claim.
	//
	// Errors: ErrNoInbox, ErrInboxFull, ErrStoreFull, ErrPayerFull.
	Put(ctx context.Context, to string, m Message, wait time.Duration) (id uint64, err error)

	// Next returns the oldest message with an ID above after. It removes
	// nothing, does not wait, and restarts the timeout of the claim. An after
	// above every ID that was given in this claim reads from the oldest
	// message, as 0 does: it is from another claim, or the clock was set back.
	//
	// Errors: ErrEmpty, ErrClaimEnded.
	Next(ctx context.Context, c Claim, after uint64) (Message, error)

	// Discard acknowledges the messages up to and including upTo and removes
	// them. An upTo above every ID that was given in this claim removes
	// nothing.
	//
	// Errors: ErrClaimEnded.
	Discard(ctx context.Context, c Claim, upTo uint64) error

	// Close ends the claim and removes its messages.
	//
	// Errors: ErrClaimEnded.
	Close(ctx context.Context, c Claim) error

	// OpenPut is Open without a payer, followed by Put without a wait, in one
	// step where the engine can. The claim is zero if Open failed.
	OpenPut(ctx context.Context, name string, key Key, to string, m Message) (c Claim, id uint64, err error)

	// OpenNext is Open without a payer, followed by Discard and Next of ack, in
	// one step, which makes the client the last receiver of the mailbox. The claim is zero
	// if Open failed.
	//
	// Errors: those of Open and Next; ErrOtherReceiver with the claim, if the client
	// resumes and is not the last receiver. Then nothing was discarded, and the claim
	// expires as if there had been no call: clients that wait for their turn must not
	// keep the place of a receiver that is gone.
	OpenNext(ctx context.Context, name string, key Key, ack uint64, client Client) (Claim, Message, error)

	// Watch calls notify whenever the caller should act on the mailbox, until
	// stop is called or the watch ends. While it is registered the claim does
	// not expire.
	//
	// notify(nil) means that there can be a message: call Next. It is called
	// for a message that is there when the watch is registered, which can be
	// after Watch has returned, and for each message that is put afterwards.
	// One call can stand for several messages, and a call can be spurious: an
	// engine calls it too when it can have missed a message, as after an
	// outage.
	//
	// notify with an error ends the watch: ErrClaimEnded, ErrStopping, or
	// ErrSuperseded if another process that shares the store has registered a
	// later watch of the claim or has opened the mailbox as a client, or if the
	// claim has a receiver that was no longer the last one when the watch was
	// registered. Watches in one process do not supersede one another otherwise.
	//
	// notify is called without locks held, from any goroutine that uses the
	// store (within Watch itself, or within the Put of another caller) and
	// concurrently with itself. It must not block. It can call the Next and Discard of a store in
	// memory, which take no time, and no other method.
	// A call can still come from a step that is under way when the watch ends
	// or is stopped.
	//
	// stop restarts the timeout of the claim, does not wait for the store, and
	// can be called more than once. A watch that has ended needs no stop.
	//
	// Errors: ErrClaimEnded, ErrSuperseded. An engine can report them through
	// notify instead.
	Watch(c Claim, notify func(end error)) (stop func(), err error)
}
