package redisstore

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"sync"

	"inbox/inbox"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// keySize is that of the key that seals, and of the secret in the store.
	keySize = 32
	// recordOverhead is the most that a record has beyond its body: two texts
	// of at most 256 bytes, their lengths, nonce and seal.
	recordOverhead = 1024
)

// The first byte of a record says what the rest is.
const (
	recordPlain  = 'p'
	recordSealed = 'x'
)

var errDamaged = errors.New("redisstore: a message in the store is damaged, or was sealed with another key")

// codec turns names, passwords and messages into what the store sees. It is
// never changed and safe for concurrent use.
type codec struct {
	names, passwords, payers *keyedHash
	aead                     cipher.AEAD // nil: they are stored as they are
}

// newCodec derives everything from one secret that all nodes share.
func newCodec(secret []byte, sealed bool) (c codec) {
	c.names, c.passwords, c.payers = newKeyedHash(derive(secret, "names")), newKeyedHash(derive(secret, "passwords")), newKeyedHash(derive(secret, "payers"))
	if sealed {
		c.aead, _ = chacha20poly1305.NewX(derive(secret, "messages")) // of a key of the right size: cannot fail
	}
	return c
}

func derive(secret []byte, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, "inbox redisstore "+purpose, keySize)
	if err != nil {
		panic(err) // only for a length that no hash has
	}
	return key
}

// keyedHash are HMACs under one key, used again: to key one costs as much as to
// use it, and a message needs five.
type keyedHash struct{ pool sync.Pool }

func newKeyedHash(key []byte) *keyedHash {
	return &keyedHash{sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
}

func (h *keyedHash) sum(texts ...string) []byte {
	mac := h.pool.Get().(hash.Hash)
	defer h.pool.Put(mac)
	mac.Reset()
	for _, text := range texts {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(text)))
		mac.Write(size[:])
		mac.Write([]byte(text))
	}
	return mac.Sum(nil)
}

var base64URL = base64.RawURLEncoding

// locate is where the mailbox of that name is.
func (c *codec) locate(name string) location {
	sum := c.names.sum(name)
	return location{int(sum[16]) % buckets, base64URL.EncodeToString(sum[:16])}
}

// passwordHash is what the store keeps of a key: it fits that name alone.
func (c *codec) passwordHash(name string, key inbox.Key) string {
	return string(c.passwords.sum(name, string(key[:])))
}

// payerID is a payer as the store sees it; nobody stays nobody.
func (c *codec) payerID(id string) string {
	if id == "" {
		return ""
	}
	return base64URL.EncodeToString(c.payers.sum(id)[:12])
}

// seal makes a record of m for the mailbox tag. It is bound to the mailbox, and
// to what it says of its sender. Its ID is not in it: that is given in the same
// step that stores it.
func (c *codec) seal(tag string, m *inbox.Message) string {
	text := make([]byte, 1, 1+len(m.From)+len(m.ContentType)+len(m.Body)+2*binary.MaxVarintLen16)
	text[0] = recordPlain
	text = binary.AppendUvarint(text, uint64(len(m.From)))
	text = append(text, m.From...)
	text = binary.AppendUvarint(text, uint64(len(m.ContentType)))
	text = append(text, m.ContentType...)
	text = append(text, m.Body...)
	if c.aead == nil {
		return string(text)
	}
	nonce := random(chacha20poly1305.NonceSizeX)
	record := make([]byte, 1, 1+len(nonce)+len(text)+c.aead.Overhead())
	record[0] = recordSealed
	record = append(record, nonce...)
	return string(c.aead.Seal(record, nonce, text, []byte(tag)))
}

// open reads a record of the mailbox tag, which anybody may have tampered with.
func (c *codec) open(tag, record string) (m inbox.Message, err error) {
	text := []byte(record)
	if c.aead != nil {
		const head = 1 + chacha20poly1305.NonceSizeX
		if len(text) < head || text[0] != recordSealed {
			return m, errDamaged
		}
		if text, err = c.aead.Open(nil, text[1:head], text[head:], []byte(tag)); err != nil {
			return m, errDamaged
		}
	}
	if len(text) == 0 || text[0] != recordPlain {
		return m, errDamaged
	}
	from, rest, ok := cutText(text[1:])
	if !ok {
		return m, errDamaged
	}
	kind, body, ok := cutText(rest)
	if !ok {
		return m, errDamaged
	}
	return inbox.Message{From: string(from), ContentType: string(kind), Body: body}, nil
}

// cutText cuts off a text that has its length in front.
func cutText(b []byte) (text, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, false
	}
	return b[n : n+int(size)], b[n+int(size):], true
}
