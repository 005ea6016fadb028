package redisstorage

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// ErrDecrypt is wrapped by Load for a value that does not open: the nodes do
// not share one key, or somebody else wrote it.
var ErrDecrypt = errors.New("the value was not written under this server's key; give all nodes the same key file")

// sealer encrypts values with AES-256-GCM under random nonces (NIST SP
// 800-38D), which is good for 2^32 values; certificates make a few a day.
type sealer struct{ aead cipher.AEAD }

func newSealer(key []byte) (*sealer, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("the key for stored certificates has %d bytes; 32 are needed", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &sealer{aead}, err
}

// seal binds a value to its name and puts the time of the change before it.
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
