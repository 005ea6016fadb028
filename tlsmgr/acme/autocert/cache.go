package autocert

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/acme/autocert"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/storage"
)

// Suffixes of autocert's cache keys for challenges: the certificate for a name, and the
// response body for a token.
const tlsALPN01Suffix, http01Suffix = "+token", "+http-01"

func isAnswer(key string) bool {
	return strings.HasSuffix(key, tlsALPN01Suffix) || strings.HasSuffix(key, http01Suffix)
}

// orderCache is the cache of the Manager of one order.
type orderCache struct {
	order             acme.Order
	startedChallenges atomic.Int32
	certRequested     atomic.Bool
	retired           atomic.Bool // the order has ended

	mu      sync.Mutex
	answers map[string][]byte // responses to the started challenges
}

func (c *orderCache) storageOf(key string) storage.Storage {
	if isAnswer(key) {
		return c.order.Challenges
	}
	return c.order.Storage
}

// Get never returns the certificate, so that the Manager orders one. The second call for it
// comes from the Manager's renewal timer. Its goroutine, the last one that refers to the
// Manager, is terminated.
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

// setAnswer stores a response in memory; nil removes it.
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

func keyOf(ca *acme.CAClient, name string) string { return path.Join("autocert", ca.StorageKey, name) }

// accountKey is autocert's cache key for the account key.
const accountKey = "acme_account+key"
