//go:build linux

package redisstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inbox/inbox"
)

var sharedKey = []byte("a key of the nodes, of 32 bytes.")

var bobsToken = claimToken{1, 2, 3}

func TestSealedMessageOpensOnlyInItsMailbox(t *testing.T) {
	t.Parallel()
	v := newCodec(sharedKey, true)
	m := inbox.Message{From: "Älice", ContentType: "application/sdp", Body: []byte("hello")}
	record := v.seal("bob", bobsToken, &m)
	got, err := v.open("bob", bobsToken, record)
	if err != nil || got.From != m.From || got.ContentType != m.ContentType || !bytes.Equal(got.Body, m.Body) {
		t.Fatalf("got %+v, %v, want %+v", got, err, m)
	}
	other, plain := newCodec(bytes.Repeat([]byte{1}, keySize), true), newCodec(sharedKey, false)
	for what, err := range map[string]error{
		"of another mailbox":    errorOf(v.open("carol", bobsToken, record)),
		"of another claim":      errorOf(v.open("bob", claimToken{1, 2, 4}, record)),
		"with another key":      errorOf(other.open("bob", bobsToken, record)),
		"without a key":         errorOf(plain.open("bob", bobsToken, record)),
		"that is not encrypted": errorOf(v.open("bob", bobsToken, plain.seal("bob", bobsToken, &m))),
		"that is truncated":     errorOf(v.open("bob", bobsToken, record[:len(record)-1])),
		"cut to five bytes":     errorOf(v.open("bob", bobsToken, record[:5])),
	} {
		if !errors.Is(err, errDamaged) {
			t.Errorf("record %s: got %v, want errDamaged", what, err)
		}
	}
	if v.seal("bob", bobsToken, &m) == record {
		t.Error("got the same record twice, want another nonce")
	}
}

func errorOf[T any](_ T, err error) error { return err }

func TestPasswordHashIncludesName(t *testing.T) {
	t.Parallel()
	v := newCodec(sharedKey, true)
	if v.passwordHash("bob", bobsKey) == v.passwordHash("carol", bobsKey) {
		t.Error("got equal hashes for two names with the same password, want different ones")
	}
}

// The files of the store contain no names, messages or keys.
func TestEncryptedStoreContainsNoPlaintext(t *testing.T) {
	t.Parallel()
	redis := startServer(t, "--appendonly", "yes", "--appendfsync", "always", "--aof-use-rdb-preamble", "no")
	s := newStore(t, "redis://"+redis.addr(), Config{Key: sharedKey})
	payer := inbox.Payer{Client: "the-payers-address", Network: "the-payers-network"}
	key := inbox.Key([]byte("the key that stands for the pass"))
	c, err := s.Open(t.Context(), "the-name-of-bob", key, &payer)
	if err != nil {
		t.Fatal(err)
	}
	m := inbox.Message{From: "the-name-of-alice", ContentType: "application/sdp", Body: []byte("what alice says"), Payer: payer}
	if _, err := s.Put(t.Context(), "the-name-of-bob", m, 0); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Next(t.Context(), c, 0); err != nil || got.From != m.From || string(got.Body) != string(m.Body) {
		t.Fatalf("got %+v, %v, want %+v", got, err, m)
	}
	redis.kill()
	var kept []byte
	err = filepath.WalkDir(redis.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		kept = append(kept, text...)
		return err
	})
	if err != nil || !bytes.Contains(kept, []byte(s.session.Load().locate("the-name-of-bob").tag)) {
		t.Fatalf("the files of the store contain no mailbox (%v): the test reads the wrong files", err)
	}
	for _, secret := range []string{"the-name-of", "what alice says", "application/sdp", "the-payers", "the key that", string(sharedKey)} {
		if bytes.Contains(kept, []byte(secret)) {
			t.Errorf("the files of the store contain %q", secret)
		}
	}
}

// Nodes with different keys must not share a store.
func TestNodesWithDifferentKeysAreRejected(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	url := "redis://" + redis.addr()
	newStore(t, url, Config{Key: sharedKey})
	other := startStore(t, url, Config{Key: bytes.Repeat([]byte{1}, keySize)})
	none := startStore(t, url, Config{})
	time.Sleep(time.Second)
	if other.Ready() == nil || none.Ready() == nil {
		t.Fatal("got a ready node with another key, or without one, want it unavailable")
	}
	same := newStore(t, url, Config{Key: sharedKey})
	open(t, same, "bob")
}

// Invalid data in the store causes errors at most, and no panic.
func TestGarbageInTheStoreIsAnError(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	s := newStore(t, "redis://"+redis.addr(), Config{MaxBodyBytes: 1000})
	for i, spoil := range []func(bucket, box string){
		func(_, box string) { redis.do("SET", box, "text") },
		func(_, box string) { redis.do("HSET", box, "x", "soon") },
		func(_, box string) { redis.do("HSET", box, "f", "-1", "l", "one") },
		func(_, box string) { redis.do("HSET", box, "e", "epoch") },
		func(_, box string) { redis.do("HSET", box, "w", "nonsense") },
		func(_, box string) { redis.do("HSET", box, "k", "") },
		func(bucket, _ string) { redis.do("SET", bucket+":s", "text") },
		func(bucket, _ string) { redis.do("HSET", bucket+":s", "n", "many") },
		func(bucket, _ string) { redis.do("HSET", bucket+":s", "v", "9223372036854775807") },
		func(bucket, _ string) { redis.do("HSET", bucket+":s", "L", "last") },
		func(bucket, _ string) { redis.do("SET", bucket+":x", "text") },
	} {
		name := fmt.Sprint("bob", i)
		c := open(t, s, name)
		put(t, s, name, "hello")
		p := s.session.Load().locate(name)
		bucket := bucketKey(p.bucket)
		spoil(bucket, bucket+":d:"+p.tag)
		_, _ = s.Open(t.Context(), name, bobsKey, &inbox.Payer{})
		_, _ = s.Open(t.Context(), name, inbox.Key{9}, &inbox.Payer{})
		_, _ = s.Put(t.Context(), name, inbox.Message{From: "alice", Body: []byte("hello")}, 0)
		_, _ = inbox.WaitNext(t.Context(), s, c, 0, 100*time.Millisecond)
		_ = s.Discard(t.Context(), c, 1<<62)
		_ = s.Close(t.Context(), c)
		redis.do("FLUSHALL")
		eventually(t, "the store is usable again", func() bool {
			_, err := s.Open(t.Context(), "carol", bobsKey, &inbox.Payer{})
			return err == nil
		})
	}
}

// Unreadable records are dropped and logged, because they would block all later
// messages.
func TestDamagedMessagesAreDropped(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	var log logBuffer
	s := newStore(t, "redis://"+redis.addr(), Config{Logger: log.logger()})
	s.maxRecordBytes = 1000
	c := open(t, s, "bob")
	p := s.session.Load().locate("bob")
	box, id := bucketKey(p.bucket)+":d:"+p.tag, c.Epoch
	for what, record := range map[string]string{
		"empty": "", "cut": "p\x10a", "of another kind": "?hello", "too large": "p\x01a\x01b" + strings.Repeat("x", 4000),
	} {
		for _, next := range []func() (inbox.Message, error){
			func() (inbox.Message, error) { return s.Next(t.Context(), c, 0) },
			func() (inbox.Message, error) {
				_, m, err := s.OpenNext(t.Context(), "bob", bobsKey, 0, inbox.Client{})
				return m, err
			},
		} {
			put(t, s, "bob", "hello")
			redis.do("HSET", box, fmt.Sprint("m", id), record)
			put(t, s, "bob", what)
			if m, err := next(); err != nil || string(m.Body) != what {
				t.Errorf("after a record that is %s: got %q, %v, want the next message", what, m.Body, err)
			}
			id += 2
			if err := s.Discard(t.Context(), c, id-1); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := strings.Count(log.String(), "dropped a message"); n != 8 {
		t.Errorf("got %d lines of dropped messages, want 8", n)
	}
}

func FuzzOpenRecord(f *testing.F) {
	plain, sealed := newCodec(sharedKey, false), newCodec(sharedKey, true)
	m := inbox.Message{From: "alice", ContentType: "text/plain", Body: []byte("hello")}
	f.Add("bob", plain.seal("bob", bobsToken, &m))
	f.Add("bob", sealed.seal("bob", bobsToken, &m))
	f.Add("", "p\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
	f.Fuzz(func(t *testing.T, tag, record string) {
		if m, err := plain.open(tag, bobsToken, record); err == nil {
			if again, err := plain.open(tag, bobsToken, plain.seal(tag, bobsToken, &m)); err != nil || again.From != m.From || !bytes.Equal(again.Body, m.Body) {
				t.Errorf("round trip: got %+v, %v, want %+v", again, err, m)
			}
		}
		if _, err := sealed.open(tag+"?", bobsToken, record); err == nil {
			t.Error("opened a record that was not sealed for that mailbox, want errDamaged")
		}
	})
}
