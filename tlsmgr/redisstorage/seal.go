package redisstorage

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// ErrDecrypt is wrapped by the error of Load for a value that cannot be decrypted:
// the nodes use different keys, or another program wrote the value.
var ErrDecrypt = errors.New("value not encrypted with this node's key; use the same key file on all nodes")

// sealer encrypts values with AES-256-GCM and random nonces. That is safe for 2^32
// values (NIST SP 800-38D); certificates need a few per day.
type sealer struct{ aead cipher.AEAD }

func newSealer(key []byte) (*sealer, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("the key for stored certificates has %d bytes; 32 bytes are required", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &sealer{aead}, err
}

// seal encrypts the modification time and the value, and binds them to the name.
func (s *sealer) seal(name string, value []byte, now time.Time) string {
	plain := binary.BigEndian.AppendUint64(nil, uint64(now.UnixNano()))
	return string(s.aead.Seal(nil, nil, append(plain, value...), []byte(name)))
}

func (s *sealer) open(name, sealed string) ([]byte, time.Time, error) {
	plain, err := s.aead.Open(nil, nil, []byte(sealed), []byte(name))
	if err != nil || len(plain) < 8 {
		return nil, time.Time{}, ErrDecrypt
	}
	return plain[8:], time.Unix(0, int64(binary.BigEndian.Uint64(plain))), nil
}
