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
	// keySize is the size of Config.Key and of the secret in the store, in bytes.
	keySize = 32
	// recordOverhead bounds the size of a record beyond its body: two texts of at most
	// 256 bytes, their lengths, the nonce and the authentication tag.
	recordOverhead = 1024
)

// The first byte of a record is its format.
const (
	recordPlain  = 'p'
	recordSealed = 'x'
)

var errDamaged = errors.New("redisstore: message in the store is damaged or encrypted with another key")

// codec converts names, passwords and messages to their stored form. It is immutable
// and safe for concurrent use.
type codec struct {
	names, passwords, payers, claims *keyedHash
	aead                             cipher.AEAD // nil: messages are stored in plain text
}

// newCodec derives all keys from one secret that the nodes share.
func newCodec(secret []byte, sealed bool) (c codec) {
	c.names = newKeyedHash(derive(secret, "names"))
	c.passwords = newKeyedHash(derive(secret, "passwords"))
	c.payers = newKeyedHash(derive(secret, "payers"))
	c.claims = newKeyedHash(derive(secret, "claims"))
	if sealed {
		c.aead, _ = chacha20poly1305.NewX(derive(secret, "messages")) // fails only for a wrong key size
	}
	return c
}

func derive(secret []byte, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, "inbox redisstore "+purpose, keySize)
	if err != nil {
		panic(err) // only for a size beyond the limit of HKDF
	}
	return key
}

// keyedHash pools HMACs under one key: setting up the key costs as much as a hash, and
// a message needs five hashes.
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

// locate returns the location of the mailbox of that name.
func (c *codec) locate(name string) location {
	sum := c.names.sum(name)
	return location{int(sum[16]) % buckets, base64URL.EncodeToString(sum[:16])}
}

// passwordHash returns the stored form of a key. It includes the name, so equal
// passwords of different mailboxes have different hashes.
func (c *codec) passwordHash(name string, key inbox.Key) string {
	return string(c.passwords.sum(name, string(key[:])))
}

// payerID returns the stored form of a payer. An empty ID stays empty.
func (c *codec) payerID(id string) string {
	if id == "" {
		return ""
	}
	return base64URL.EncodeToString(c.payers.sum(id)[:12])
}

// seal encodes m as a record for one claim of the mailbox tag. Encryption binds the
// record to the mailbox, the claim and the sender's name. The record does not contain the
// ID, which is assigned in the step that stores it.
func (c *codec) seal(tag string, token claimToken, m *inbox.Message) string {
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
	return string(c.aead.Seal(record, nonce, text, boundTo(tag, token)))
}

// boundTo returns what a record is authenticated with.
func boundTo(tag string, token claimToken) []byte { return append(token[:], tag...) }

// open decodes a record of a claim of the mailbox tag. The record is untrusted: other users of the
// store can have changed it.
func (c *codec) open(tag string, token claimToken, record string) (m inbox.Message, err error) {
	text := []byte(record)
	if c.aead != nil {
		const head = 1 + chacha20poly1305.NonceSizeX
		if len(text) < head || text[0] != recordSealed {
			return m, errDamaged
		}
		if text, err = c.aead.Open(nil, text[1:head], text[head:], boundTo(tag, token)); err != nil {
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

// cutText cuts off a text that is prefixed with its length.
func cutText(b []byte) (text, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, false
	}
	return b[n : n+int(size)], b[n+int(size):], true
}

// claimToken is the random identity that a node gives a claim when it makes it. Unlike the
// epoch, which the store assigns, it cannot repeat. It binds the messages to the claim.
type claimToken = [16]byte
