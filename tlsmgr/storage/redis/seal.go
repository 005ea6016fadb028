package redis

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
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

// seal encrypts a value and binds it to its name.
func (s *sealer) seal(name string, value []byte) string {
	return string(s.aead.Seal(nil, nil, value, []byte(name)))
}

func (s *sealer) open(name, sealed string) ([]byte, error) {
	value, err := s.aead.Open(nil, nil, []byte(sealed), []byte(name))
	if err != nil {
		return nil, ErrDecrypt
	}
	return value, nil
}
