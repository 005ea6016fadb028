package inbox

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"net/http"
	"strings"
	"sync"
)

// keyring derives keys from passwords: HMAC-SHA256 (RFC 2104) under a secret.
// Without the secret, a stolen store allows no dictionary attack.
type keyring struct{ scratches *sync.Pool }

// scratch is the memory to read the credentials of one request.
type scratch struct {
	mac     hash.Hash
	decoded [2*maxNameBytes + 8]byte // longer ones are allocated, and refused
	key     Key
}

func newKeyring(secret []byte) keyring {
	return keyring{&sync.Pool{New: func() any { return &scratch{mac: hmac.New(sha256.New, secret)} }}}
}

// credentials returns the name of a request and the key of its password. It
// copies the password into no string, and clears it.
func (k keyring) credentials(r *http.Request) (name string, key Key, err error) {
	s := k.scratches.Get().(*scratch)
	defer k.scratches.Put(s)
	defer clear(s.decoded[:])
	pair, ok := decodeBasic(s.decoded[:0], canonicalHeader(r.Header, "Authorization"))
	before, password, found := bytes.Cut(pair, []byte(":"))
	if !ok || !found {
		return "", Key{}, errUnauthorized
	}
	name = string(before)
	if err := checkName(name); err != nil {
		return "", Key{}, badRequest("the user name", err)
	}
	if len(password) == 0 || len(password) > maxNameBytes {
		return "", Key{}, badRequest("the password", fmt.Errorf("must have 1 to %d bytes", maxNameBytes))
	}
	s.mac.Reset()
	s.mac.Write(password)
	s.mac.Sum(s.key[:0])
	return name, s.key, nil
}

// decodeBasic appends the credentials of a field of HTTP Basic authentication
// (RFC 7617) to dst.
func decodeBasic(dst []byte, field string) ([]byte, bool) {
	const scheme = "Basic "
	if len(field) < len(scheme) || !strings.EqualFold(field[:len(scheme)], scheme) {
		return nil, false
	}
	dst, err := base64.StdEncoding.AppendDecode(dst, []byte(field[len(scheme):]))
	return dst, err == nil
}

// canonicalHeader is Header.Get for a name in canonical form.
func canonicalHeader(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}
