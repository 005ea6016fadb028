package invite

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
)

const (
	// sharedInterval is how late a node notices a change.
	sharedInterval = 250 * time.Millisecond
	// callTimeout bounds a call to the store.
	callTimeout = 3 * time.Second
	// maxAttempts bounds how often a change is tried while others change the invitations.
	maxAttempts = 20
)

// swapScript replaces the text unless another process has done so.
const swapScript = `if (redis.call('HGET', KEYS[1], 'version') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'text', ARGV[3])
return 1`

// Client runs a command in the store: its words, a key and the arguments that follow it. The answer
// is nil, a string, an int64 or a list of these. It can be called concurrently.
type Client interface {
	Do(ctx context.Context, command []string, key string, args ...string) (any, error)
}

// Shared keeps the invitations in Redis or Valkey, for all nodes of a store. With a key, the store
// can neither read nor change them, but it can put back an earlier state.
type Shared struct {
	client Client
	key    string      // of the hash
	aead   cipher.AEAD // nil: not encrypted
	seen   string      // version
	polled bool
}

// NewShared returns the storage in a store, whose keys begin with prefix. secret has 32 bytes, is
// the same on all nodes and encrypts the invitations; nil does not.
func NewShared(client Client, prefix string, secret []byte) *Shared {
	s := &Shared{client: client, key: prefix + "{invite}:registry"}
	if len(secret) > 0 {
		key, err := hkdf.Key(sha256.New, secret, nil, "inbox invitations", 32)
		if err != nil {
			panic(err) // only for a key of more than 8160 bytes
		}
		block, _ := aes.NewCipher(key)                  // fails only for a wrong key size
		s.aead, _ = cipher.NewGCMWithRandomNonce(block) // fails only for another block size
	}
	return s
}

// Interval implements [Storage].
func (s *Shared) Interval() time.Duration { return sharedInterval }

// Poll implements [Storage].
func (s *Shared) Poll(ctx context.Context) (text []byte, changed bool, err error) {
	reply, err := s.do(ctx, []string{"HGET"}, "version")
	if err != nil {
		return nil, false, err
	}
	if version, _ := reply.(string); s.polled && version == s.seen {
		return nil, false, nil
	}
	version, text, err := s.load(ctx)
	if err != nil {
		return nil, false, err
	}
	s.seen, s.polled = version, true
	return text, true, nil
}

// Update implements [Storage].
func (s *Shared) Update(ctx context.Context, change func([]byte) ([]byte, error)) error {
	for range maxAttempts {
		version, text, err := s.load(ctx)
		if err != nil {
			return err
		}
		if text, err = change(text); err != nil {
			return err
		}
		if s.aead != nil {
			text = s.aead.Seal(nil, nil, text, []byte(s.key))
		}
		reply, err := s.do(ctx, []string{"EVAL", swapScript, "1"}, version, rand.Text(), string(text))
		if err != nil || reply == int64(1) {
			return err
		}
	}
	return errors.New("other processes change the invitations all the time: try again")
}

// load returns the text and its version; both are empty if nothing is stored.
func (s *Shared) load(ctx context.Context) (version string, text []byte, err error) {
	reply, err := s.do(ctx, []string{"HMGET"}, "version", "text")
	if err != nil {
		return "", nil, err
	}
	fields, _ := reply.([]any)
	if len(fields) != 2 {
		return "", nil, fmt.Errorf("load the invitations: unexpected reply %T", reply)
	}
	version, _ = fields[0].(string)
	stored, _ := fields[1].(string)
	switch {
	case len(stored) > 2*maxTextBytes:
		return "", nil, fmt.Errorf("%w: they are too large", errUnreadable)
	case stored == "" || s.aead == nil:
		return version, []byte(stored), nil
	}
	if text, err = s.aead.Open(nil, nil, []byte(stored), []byte(s.key)); err != nil {
		return "", nil, fmt.Errorf("%w: they are damaged, or of a server with another key", errUnreadable)
	}
	return version, text, nil
}

func (s *Shared) do(ctx context.Context, command []string, args ...string) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.client.Do(ctx, command, s.key, args...)
}
