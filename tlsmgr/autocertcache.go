package tlsmgr

import (
	"context"
	"crypto/tls"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/acme/autocert"
)

// How autocert's keys end for the answers to challenges: a name's certificate,
// and a token's text.
const tlsALPN01Suffix, http01Suffix = "+token", "+http-01"

func (e *autocertEngine) startOrder(name string, c *orderCache) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.activeOrders[name] = c
}

func (e *autocertEngine) endOrder(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.activeOrders, name)
}

func (e *autocertEngine) activeOrder(name string) *orderCache {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.activeOrders[name]
}

// challengeAnswer finds what an order laid out: our own in memory, that of another
// process, if deep, on the disk. A Manager itself would look there for each
// stranger, and keep its own orders waiting meanwhile.
func (e *autocertEngine) challengeAnswer(ctx context.Context, name, key string, fromStorage bool) []byte {
	if c := e.activeOrder(name); c != nil {
		if text := c.getAnswer(key); text != nil {
			return text
		}
	}
	if !fromStorage {
		return nil
	}
	for _, ca := range e.settings.challengeCAs() {
		if text, err := e.buffered.Load(ctx, e.key(ca, key)); err == nil {
			return text
		}
	}
	return nil
}

func (e *autocertEngine) answerTLS(hello *tls.ClientHelloInfo, fromStorage bool) (*tls.Certificate, error) {
	name := challengedName(hello.ServerName)
	bundle := e.challengeAnswer(hello.Context(), name, name+tlsALPN01Suffix, fromStorage)
	if bundle == nil {
		return nil, nil
	}
	cert, err := tls.X509KeyPair(bundle, bundle)
	if err != nil {
		return nil, err
	}
	return &cert, nil
}

func (e *autocertEngine) answerHTTP(r *http.Request, fromStorage bool) []byte {
	token := strings.TrimPrefix(r.URL.Path, tokenPath)
	if r.Method != http.MethodGet || !isToken(token) {
		return nil
	}
	return e.challengeAnswer(r.Context(), hostOf(r.Host), token+http01Suffix, fromStorage)
}

// maxTokenLen is more than any authority's token has; with what is added it still
// is the name of a file.
const maxTokenLen = 200

// isToken is what may be a token (RFC 8555, 8.3), and never a path.
func isToken(text string) bool {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return text != "" && len(text) <= maxTokenLen && strings.Trim(text, alphabet) == ""
}

// orderCache is the cache of one Manager.
type orderCache struct {
	engine            *autocertEngine
	order             order
	startedChallenges atomic.Int32 // challenges laid out
	certRequested     atomic.Bool  // for the certificate
	retired           atomic.Bool

	mu      sync.Mutex
	answers map[string][]byte // the answers to challenges that are laid out
}

// Get never finds the certificate, which is to be ordered anew. When it is asked
// for a second time that is the Manager's timer for renewals: its goroutine
// ends here, and with it the last that holds the Manager.
func (c *orderCache) Get(ctx context.Context, key string) ([]byte, error) {
	if key == c.order.name {
		if c.certRequested.Swap(true) || c.retired.Load() {
			runtime.Goexit()
		}
		return nil, autocert.ErrCacheMiss
	}
	value, err := c.engine.buffered.Load(ctx, c.engine.key(c.order.ca, key))
	if isNotExist(err) {
		return nil, autocert.ErrCacheMiss
	}
	return value, err
}

func (c *orderCache) Put(ctx context.Context, key string, value []byte) error {
	if strings.HasSuffix(key, tlsALPN01Suffix) || strings.HasSuffix(key, http01Suffix) {
		c.startedChallenges.Add(1)
		c.setAnswer(key, value)
	}
	return c.engine.buffered.Store(ctx, c.engine.key(c.order.ca, key), value)
}

func (c *orderCache) Delete(ctx context.Context, key string) error {
	c.setAnswer(key, nil)
	return c.engine.buffered.Delete(ctx, c.engine.key(c.order.ca, key))
}

// setAnswer keeps an answer in memory; nil forgets it.
func (c *orderCache) setAnswer(key string, value []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answers == nil {
		c.answers = map[string][]byte{}
	}
	c.answers[key] = value
	if value == nil {
		delete(c.answers, key)
	}
}

func (c *orderCache) getAnswer(key string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answers[key]
}
