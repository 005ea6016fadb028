//go:build linux

package redisstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"inbox/inbox"
)

// forgery is a store with a key of the nodes, and another user of Redis who changes it.
type forgery struct {
	*testing.T
	store *Store
	log   *logBuffer
}

func newForgery(t *testing.T) *forgery {
	var log logBuffer
	s := newStore(t, "redis://"+startServer(t).addr(), Config{Key: sharedKey, Logger: log.logger()})
	return &forgery{t, s, &log}
}

var attackersKey = inbox.Key{6, 6, 6}

func (f *forgery) data(name string) string {
	loc := f.store.session.Load().locate(name)
	return bucketKey(loc.bucket) + ":d:" + loc.tag
}

// steal returns the fields of a mailbox.
func (f *forgery) steal(name string) map[string]string {
	sess := f.store.session.Load()
	fields, err := sess.Do(f.Context(), sess.B().Hgetall().Key(f.data(name)).Build()).AsStrMap()
	if err != nil || len(fields) == 0 {
		f.Fatalf("read the fields: %v, %v", fields, err)
	}
	return fields
}

// plant writes the fields of a mailbox, those with these names or prefixes.
func (f *forgery) plant(name string, fields map[string]string, which ...string) {
	sess := f.store.session.Load()
	for field, value := range fields {
		for _, w := range which {
			if field == w || w == "m" && strings.HasPrefix(field, "m") {
				if err := sess.Do(f.Context(), sess.B().Hset().Key(f.data(name)).FieldValue().FieldValue(field, value).Build()).Error(); err != nil {
					f.Fatal(err)
				}
			}
		}
	}
}

// stealFormerClaim claims a name as the attacker and returns the fields of that claim,
// which has ended.
func (f *forgery) stealFormerClaim(name string) map[string]string {
	c, err := f.store.Open(f.Context(), name, attackersKey, &inbox.Payer{})
	if err != nil {
		f.Fatal(err)
	}
	fields := f.steal(name)
	if err := f.store.Close(f.Context(), c); err != nil {
		f.Fatal(err)
	}
	return fields
}

// The fields of an attacker's former claim of the same name, in any combination, do not
// open the messages of the present one.
func TestCopiedClaimReadsNothing(t *testing.T) {
	t.Parallel()
	f := newForgery(t)
	for i, which := range [][]string{{"k"}, {"a"}, {"k", "e"}, {"e", "a"}, {"k", "a"}, {"k", "a", "e"}} {
		name := fmt.Sprint("bob", i)
		former := f.stealFormerClaim(name)
		open(t, f.store, name)
		put(t, f.store, name, "a secret")
		f.plant(name, former, which...)
		c, m, err := f.store.OpenNext(t.Context(), name, attackersKey, 0, inbox.Client{})
		if err == nil || len(m.Body) > 0 {
			t.Errorf("fields %v: got message %q, want none", which, m.Body)
		}
		if len(which) == 1 && !errors.Is(err, inbox.ErrWrongKey) {
			t.Errorf("fields %v: got %v, want %v", which, err, inbox.ErrWrongKey)
		}
		if m, err := f.store.Next(t.Context(), c, 0); err == nil {
			t.Errorf("fields %v: next: got message %q, want none", which, m.Body)
		}
	}
	if n := strings.Count(f.log.String(), "refused a claim"); n != 1 {
		t.Errorf("got %d log lines of refused claims, want 1", n)
	}
}

// The claim of another name, copied as a whole, opens nothing and cannot be sent to.
func TestClaimOfAnotherNameIsRefused(t *testing.T) {
	t.Parallel()
	f := newForgery(t)
	if _, err := f.store.Open(t.Context(), "mallory", attackersKey, &inbox.Payer{}); err != nil {
		t.Fatal(err)
	}
	open(t, f.store, "bob")
	f.plant("bob", f.steal("mallory"), "k", "a", "e")
	if _, err := f.store.Open(t.Context(), "bob", attackersKey, nil); !errors.Is(err, inbox.ErrWrongKey) {
		t.Errorf("open: got %v, want %v", err, inbox.ErrWrongKey)
	}
	if err := tryPut(t, f.store, "bob", inbox.Message{Body: []byte("a secret")}); !errors.Is(err, inbox.ErrNoInbox) {
		t.Errorf("put: got %v, want %v", err, inbox.ErrNoInbox)
	}
}

// A copied key sends no message in the name of its owner, whether or not the node knows
// the owner's claim.
func TestCopiedClaimSendsNothing(t *testing.T) {
	t.Parallel()
	f := newForgery(t)
	bob := open(t, f.store, "bob")
	for _, known := range []bool{false, true} {
		name := fmt.Sprint("alice", known)
		former := f.stealFormerClaim(name)
		open(t, f.store, name)
		f.plant(name, former, "k")
		if !known {
			f.store.session.Load().known.young = nil
		}
		_, _, err := f.store.OpenPut(t.Context(), name, attackersKey, "bob", inbox.Message{From: name, Body: []byte("forged")})
		if !errors.Is(err, inbox.ErrWrongKey) {
			t.Errorf("known %v: got %v, want %v", known, err, inbox.ErrWrongKey)
		}
	}
	if m, err := f.store.Next(t.Context(), bob, 0); !errors.Is(err, inbox.ErrEmpty) {
		t.Errorf("got message %q from %q, want none", m.Body, m.From)
	}
}

// The messages of one claim, copied into a later one of the same name, are dropped, also
// if the epoch is that of the former claim.
func TestReplayedMessagesAreDropped(t *testing.T) {
	t.Parallel()
	f := newForgery(t)
	for i, epoch := range []string{"", "e"} {
		name := fmt.Sprint("bob", i)
		first := open(t, f.store, name)
		put(t, f.store, name, "a secret")
		former := f.steal(name)
		if err := f.store.Close(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if _, err := f.store.Open(t.Context(), name, attackersKey, &inbox.Payer{}); err != nil {
			t.Fatal(err)
		}
		f.plant(name, former, "m", "f", "l", epoch)
		_, m, err := f.store.OpenNext(t.Context(), name, attackersKey, 0, inbox.Client{})
		if !errors.Is(err, inbox.ErrEmpty) {
			t.Errorf("epoch copied %q: got %q, %v, want %v", epoch, m.Body, err, inbox.ErrEmpty)
		}
	}
	if n := strings.Count(f.log.String(), "dropped a message"); n != 2 {
		t.Errorf("got %d log lines of dropped messages, want 2", n)
	}
}

// A node that knows a former claim seals for the present one.
func TestNewClaimIsLearned(t *testing.T) {
	t.Parallel()
	onBothTopologies(t, func(t *testing.T, url string) {
		cfg := Config{Key: sharedKey}
		a, b := newStore(t, url, cfg), newStore(t, url, cfg)
		for i := range 3 {
			c := open(t, b, "bob")
			open(t, b, "alice")
			for range 2 {
				m := inbox.Message{From: "alice", Body: fmt.Append(nil, "hello ", i)}
				if _, _, err := a.OpenPut(t.Context(), "alice", bobsKey, "bob", m); err != nil {
					t.Fatal(err)
				}
				got := wantNext(t, b, c, 0, string(m.Body))
				if err := b.Discard(t.Context(), c, got.ID); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.Close(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestCachedClaimsAreBounded(t *testing.T) {
	t.Parallel()
	var cache claimCache
	claim := verifiedClaim{"token", "hash"}
	cache.add("first", claim)
	for i := range 3 * maxCachedClaims {
		cache.add(fmt.Sprint(i), claim)
		if cache.get("first") != claim {
			t.Fatalf("a claim in use was dropped after %d others", i)
		}
	}
	if n := len(cache.young) + len(cache.old); n > 2*maxCachedClaims {
		t.Errorf("got %d claims, want at most %d", n, 2*maxCachedClaims)
	}
}

func FuzzVerifyToken(f *testing.F) {
	v := newCodec(sharedKey, true)
	f.Add("bob", string(v.newSignedToken("bob", "hash")), "hash")
	f.Add("", "", "")
	f.Fuzz(func(t *testing.T, tag, signed, hash string) {
		if _, ok := v.verifyToken(tag+"?", signedToken(signed), hash); ok {
			t.Error("verified a token of another mailbox")
		}
		again := v.newSignedToken(tag, hash)
		if token, ok := v.verifyToken(tag, again, hash); !ok || token != again.token() {
			t.Error("refused a token of this node")
		}
		if _, ok := v.verifyToken(tag, again, hash+"?"); ok {
			t.Error("verified a token of another password")
		}
	})
}
