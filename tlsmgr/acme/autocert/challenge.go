package autocert

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/acme/autocert"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/hosts"
	"inbox/tlsmgr/storage"
)

// Suffixes of autocert's keys for the answers to challenges: the certificate for
// a name, and the text for a token.
const tlsALPN01Suffix, http01Suffix = "+token", "+http-01"

func isAnswer(key string) bool {
	return strings.HasSuffix(key, tlsALPN01Suffix) || strings.HasSuffix(key, http01Suffix)
}

// setOrder sets the order in progress for a name; nil: none.
func (e *engine) setOrder(name string, c *orderCache) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.orders[name] = c
}

// answer finds the answer to a challenge: that of an order of this process in
// memory, and fromStorage that of another. A Manager would read storage for each
// client, and delay its own orders meanwhile.
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

// maxTokenLen exceeds the tokens of all CAs; with a suffix it still is a file name.
const maxTokenLen = 200

// isToken checks the syntax of a token (RFC 8555, 8.3), which is never a path.
func isToken(text string) bool {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return text != "" && len(text) <= maxTokenLen && strings.Trim(text, alphabet) == ""
}

// orderCache is the cache of the Manager of one order.
type orderCache struct {
	order             acme.Order
	startedChallenges atomic.Int32
	certRequested     atomic.Bool
	retired           atomic.Bool // the order has ended

	mu      sync.Mutex
	answers map[string][]byte // to the challenges that were started
}

func (c *orderCache) storageOf(key string) storage.Storage {
	if isAnswer(key) {
		return c.order.Challenges
	}
	return c.order.Storage
}

// Get never finds the certificate, so that it is ordered. The second question for
// it comes from the Manager's renewal timer: that goroutine, which is the last to
// hold the Manager, ends here.
func (c *orderCache) Get(ctx context.Context, key string) ([]byte, error) {
	if key == c.order.Name {
		if c.certRequested.Swap(true) || c.retired.Load() {
			runtime.Goexit()
		}
		return nil, autocert.ErrCacheMiss
	}
	value, err := c.storageOf(key).Load(ctx, keyOf(c.order.CA, key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, autocert.ErrCacheMiss
	}
	return value, err
}

func (c *orderCache) Put(ctx context.Context, key string, value []byte) error {
	if isAnswer(key) {
		c.startedChallenges.Add(1)
		c.setAnswer(key, value)
	}
	return c.storageOf(key).Store(ctx, keyOf(c.order.CA, key), value)
}

func (c *orderCache) Delete(ctx context.Context, key string) error {
	c.setAnswer(key, nil)
	return c.storageOf(key).Delete(ctx, keyOf(c.order.CA, key))
}

// setAnswer keeps an answer in memory; nil removes it.
func (c *orderCache) setAnswer(key string, value []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answers == nil {
		c.answers = map[string][]byte{}
	}
	c.answers[key] = value
}

func (c *orderCache) answer(key string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answers[key]
}
