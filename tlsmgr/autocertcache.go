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
const tokenTLS, tokenHTTP = "+token", "+http-01"

func (e *withAutocert) start(name string, c *orderCache) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running[name] = c
}

func (e *withAutocert) end(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.running, name)
}

func (e *withAutocert) ordering(name string) *orderCache {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.running[name]
}

// answer finds what an order laid out: our own in memory, that of another
// process, if deep, on the disk. A Manager itself would look there for each
// stranger, and keep its own orders waiting meanwhile.
func (e *withAutocert) answer(ctx context.Context, name, key string, deep bool) []byte {
	if c := e.ordering(name); c != nil {
		if text := c.laid(key); text != nil {
			return text
		}
	}
	if !deep {
		return nil
	}
	for _, ca := range e.set.answered() {
		if text, err := e.keeper.Load(ctx, e.key(ca, key)); err == nil {
			return text
		}
	}
	return nil
}

func (e *withAutocert) answerTLS(hello *tls.ClientHelloInfo, deep bool) (*tls.Certificate, error) {
	name := challengedName(hello.ServerName)
	bundle := e.answer(hello.Context(), name, name+tokenTLS, deep)
	if bundle == nil {
		return nil, nil
	}
	cert, err := tls.X509KeyPair(bundle, bundle)
	if err != nil {
		return nil, err
	}
	return &cert, nil
}

func (e *withAutocert) answerHTTP(r *http.Request, deep bool) []byte {
	token := strings.TrimPrefix(r.URL.Path, tokenPath)
	if r.Method != http.MethodGet || !isToken(token) {
		return nil
	}
	return e.answer(r.Context(), hostOf(r.Host), token+tokenHTTP, deep)
}

// maxToken is more than any authority's token has; with what is added it still
// is the name of a file.
const maxToken = 200

// isToken is what may be a token (RFC 8555, 8.3), and never a path.
func isToken(text string) bool {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return text != "" && len(text) <= maxToken && strings.Trim(text, alphabet) == ""
}

// orderCache is the cache of one Manager.
type orderCache struct {
	engine  *withAutocert
	order   order
	begun   atomic.Int32 // challenges laid out
	asked   atomic.Bool  // for the certificate
	retired atomic.Bool

	mu     sync.Mutex
	tokens map[string][]byte // the answers to challenges that are laid out
}

// Get never finds the certificate, which is to be ordered anew. When it is asked
// for a second time that is the Manager's timer for renewals: its goroutine
// ends here, and with it the last that holds the Manager.
func (c *orderCache) Get(ctx context.Context, key string) ([]byte, error) {
	if key == c.order.name {
		if c.asked.Swap(true) || c.retired.Load() {
			runtime.Goexit()
		}
		return nil, autocert.ErrCacheMiss
	}
	value, err := c.engine.keeper.Load(ctx, c.engine.key(c.order.ca, key))
	if missing(err) {
		return nil, autocert.ErrCacheMiss
	}
	return value, err
}

func (c *orderCache) Put(ctx context.Context, key string, value []byte) error {
	if strings.HasSuffix(key, tokenTLS) || strings.HasSuffix(key, tokenHTTP) {
		c.begun.Add(1)
		c.lay(key, value)
	}
	return c.engine.keeper.Store(ctx, c.engine.key(c.order.ca, key), value)
}

func (c *orderCache) Delete(ctx context.Context, key string) error {
	c.lay(key, nil)
	return c.engine.keeper.Delete(ctx, c.engine.key(c.order.ca, key))
}

// lay keeps an answer in memory; nil forgets it.
func (c *orderCache) lay(key string, value []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tokens == nil {
		c.tokens = map[string][]byte{}
	}
	c.tokens[key] = value
	if value == nil {
		delete(c.tokens, key)
	}
}

func (c *orderCache) laid(key string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tokens[key]
}
