package autocert

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/hosts"
)

// setOrder sets the order in progress for a name; nil removes it.
func (e *engine) setOrder(name string, c *orderCache) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.orders[name] = c
}

// answer returns the response to a challenge: of an order of this process, or, if
// fromStorage is set, of another process. A Manager would read storage for each client, and
// delay its own orders.
func (e *engine) answer(ctx context.Context, name, key string, fromStorage bool) []byte {
	e.mu.Lock()
	order := e.orders[name]
	e.mu.Unlock()
	if order != nil {
		if text := order.answer(key); text != nil {
			return text
		}
	}
	if !fromStorage {
		return nil
	}
	for _, ca := range e.ChallengeCAs() {
		if text, err := e.Challenges.Load(ctx, keyOf(ca, key)); err == nil {
			return text
		}
	}
	return nil
}

func (e *engine) AnswerTLS(hello *tls.ClientHelloInfo, fromStorage bool) (*tls.Certificate, error) {
	name := acme.ChallengedName(hello.ServerName)
	bundle := e.answer(hello.Context(), name, name+tlsALPN01Suffix, fromStorage)
	if bundle == nil {
		return nil, nil
	}
	return certs.Parse(bundle, bundle)
}

func (e *engine) AnswerHTTP(r *http.Request, fromStorage bool) []byte {
	token := strings.TrimPrefix(r.URL.Path, acme.TokenPath)
	if r.Method != http.MethodGet || !isToken(token) {
		return nil
	}
	return e.answer(r.Context(), hosts.FromHeader(r.Host), token+http01Suffix, fromStorage)
}

// maxTokenLen is more than the tokens of all CAs have. With a suffix, such a token is a
// valid file name.
const maxTokenLen = 200

// isToken reports whether text has the syntax of a token (RFC 8555, 8.3), so that it
// contains no path.
func isToken(text string) bool {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return text != "" && len(text) <= maxTokenLen && strings.Trim(text, alphabet) == ""
}
