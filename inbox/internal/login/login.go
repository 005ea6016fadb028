// Package login reads the credentials of requests: HTTP Basic authentication with a name and a
// password, of which it derives a key.
package login

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"inbox/inbox/internal/names"
	"inbox/internal/problem"

	"golang.org/x/text/unicode/norm"
)

// Errors of [Reader.Read]. Others are problems.
var (
	ErrMissing   = errors.New("no credentials")
	ErrNotBase64 = errors.New("credentials that are not base64")
	ErrNoColon   = errors.New("credentials without a colon")
)

// Key is a keyed hash of a password.
type Key = [32]byte

// Reader reads credentials and derives keys under one secret. All methods can be called
// concurrently.
type Reader struct {
	scratches *sync.Pool // of *scratch
	salt      [saltBytes]byte
}

// NewReader returns a reader. The secret has 16 bytes or more.
func NewReader(secret []byte) *Reader {
	r := &Reader{scratches: newScratches(secret)}
	rand.Read(r.salt[:]) // never fails
	return r
}

// Memory is what a connection remembers: the last credentials, so that a client that sends the
// same with each request costs less. The zero value is empty.
type Memory struct{ last atomic.Pointer[login] }

// scratch is the memory to read the credentials of one request, and to derive a key from
// the password: HMAC-SHA256 (RFC 2104) under a secret. Without the secret, a stolen store
// allows no dictionary attack.
type scratch struct {
	mac      hash.Hash
	decoded  [maxCredentialBytes]byte
	composed [3 * names.MaxBytes]byte // NFC triples a text at most
	key      Key
}

// maxCredentialBytes bounds what is decoded: longer credentials contain a name or a
// password that is too long.
const maxCredentialBytes = 2*names.MaxBytes + 1

func newScratches(secret []byte) *sync.Pool {
	return &sync.Pool{New: func() any { return &scratch{mac: hmac.New(sha256.New, secret)} }}
}

// login is an Authorization field, as a hash, with what it stands for: whose mailbox, and a key that
// the store must still compare. It is not known whether the key is the right one.
type login struct {
	digest digest
	name   string
	key    Key
}

// digest identifies an Authorization field. It is salted, so that the memory of a connection that
// waits allows no dictionary attack on the password, and the digests of two readers differ.
type digest [sha256.Size]byte

const (
	saltBytes = 32
	// maxLoginBytes bounds the field of a login that a connection remembers. The pages send 70
	// bytes.
	maxLoginBytes = 256
)

// Read returns the name of a request and the key of its password. m can be nil.
func (p *Reader) Read(r *http.Request, m *Memory) (name string, key Key, err error) {
	field, err := authorization(r.Header)
	switch {
	case err != nil:
		return "", Key{}, err
	case m == nil || len(field) > maxLoginBytes:
		return parse(field, p.scratches)
	}
	// A proxy can send the requests of several clients on one connection, hence in constant time.
	digest := p.digestOf(field)
	if last := m.last.Load(); last != nil && subtle.ConstantTimeCompare(last.digest[:], digest[:]) == 1 {
		return last.name, last.key, nil
	}
	name, key, err = parse(field, p.scratches)
	if err == nil {
		m.last.Store(&login{digest, name, key})
	}
	return name, key, err
}

// digestOf returns the digest of a field of maxLoginBytes or less.
func (p *Reader) digestOf(field string) digest {
	var salted [saltBytes + maxLoginBytes]byte
	copy(salted[:], p.salt[:])
	n := copy(salted[saltBytes:], field)
	return sha256.Sum256(salted[:saltBytes+n])
}

// parse returns what an Authorization field stands for. It copies the password into
// no string, and clears it.
func parse(field string, scratches *sync.Pool) (name string, key Key, err error) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	defer clear(s.decoded[:])
	before, password, err := s.decodeBasic(field)
	if err != nil {
		return "", Key{}, err
	}
	if name, err = names.Parse(string(before)); err != nil {
		return "", Key{}, problem.BadRequest("the user name", err)
	}
	if err := s.deriveKey(password); err != nil {
		return "", Key{}, problem.BadRequest("the password", err)
	}
	return name, s.key, nil
}

// authorization returns the Authorization field. With two, a proxy could have checked
// the other one.
func authorization(h http.Header) (string, error) {
	switch values := h["Authorization"]; len(values) {
	case 0:
		return "", ErrMissing
	case 1:
		return values[0], nil
	}
	return "", problem.BadRequest("the Authorization field", errors.New("must be sent once"))
}

// decodeBasic decodes a field of HTTP Basic authentication (RFC 7617): the scheme in any
// case, one or more spaces, and base64 in its standard form.
func (s *scratch) decodeBasic(field string) (name, password []byte, err error) {
	scheme, encoded, _ := strings.Cut(field, " ")
	encoded = strings.Trim(encoded, " ")
	switch {
	case !strings.EqualFold(scheme, "Basic"), encoded == "":
		return nil, nil, ErrMissing
	case base64.StdEncoding.DecodedLen(len(encoded)) > len(s.decoded):
		return nil, nil, problem.BadRequest("the name or the password", fmt.Errorf("is longer than %d bytes", names.MaxBytes))
	}
	pair, err := base64.StdEncoding.AppendDecode(s.decoded[:0], []byte(encoded))
	if err != nil {
		return nil, nil, ErrNotBase64
	}
	name, password, found := bytes.Cut(pair, []byte(":"))
	if !found {
		return nil, nil, ErrNoColon
	}
	return name, password, nil
}

// deriveKey sets the key of a password. Passwords are compared in NFC, like names: what a
// person types has another form on another system.
func (s *scratch) deriveKey(password []byte) error {
	switch {
	case len(password) == 0 || len(password) > names.MaxBytes:
		return fmt.Errorf("must have 1 to %d bytes", names.MaxBytes)
	case !utf8.Valid(password):
		return names.ErrNotUTF8
	case !norm.NFC.IsNormal(password):
		defer clear(s.composed[:])
		password = norm.NFC.Append(s.composed[:0], password...)
	}
	s.mac.Reset()
	s.mac.Write(password)
	s.mac.Sum(s.key[:0])
	return nil
}
