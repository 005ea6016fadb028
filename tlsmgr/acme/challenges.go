package acme

import (
	"context"
	"crypto/tls"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"inbox/tlsmgr/internal/hosts"
	"inbox/tlsmgr/internal/timeout"
)

const (
	// maxStorageLookups bounds the challenges that are looked up in storage at once,
	// and storageLookupTimeout how long a client waits for one.
	maxStorageLookups    = 16
	storageLookupTimeout = 2 * time.Second
	// lockCacheTTL is how long the state of a name's lock is cached. Reading it
	// touches the lock: a client that asks without pause must not keep a process
	// from acquiring it.
	lockCacheTTL = 100 * time.Millisecond
)

// challenges answers CAs. Any client can ask like one, so only configured names
// are looked up, in storage only while a process orders for the name, and only a
// few at once.
type challenges struct {
	names       []string
	engine      Engine
	checkLock   func(name string) bool // whether a process orders; reads storage
	lookupSlots chan struct{}

	mu        sync.Mutex
	lockCache map[string]lockState
}

type lockState struct {
	checkedAt time.Time
	locked    bool
}

func newChallenges(names []string, e Engine, checkLock func(string) bool) *challenges {
	return &challenges{names: names, engine: e, checkLock: checkLock,
		lookupSlots: make(chan struct{}, maxStorageLookups), lockCache: map[string]lockState{}}
}

// orderInProgress reports whether a process orders for the name.
func (c *challenges) orderInProgress(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cached, ok := c.lockCache[name]; ok && time.Since(cached.checkedAt) < lockCacheTTL {
		return cached.locked
	}
	locked := c.checkLock(name)
	c.lockCache[name] = lockState{time.Now(), locked}
	return locked
}

// IsChallenge reports whether a hello is that of a CA that validates a name.
func IsChallenge(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == ALPNProto
}

// getCertificate answers a challenge hello. (nil, nil) makes crypto/tls send
// unrecognized_name.
func (c *challenges) getCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := ChallengedName(hello.ServerName)
	if !slices.Contains(c.names, name) {
		return nil, nil
	}
	if cert, err := c.engine.AnswerTLS(hello, false); cert != nil && err == nil {
		return cert, nil
	}
	return lookupInStorage(c, name, func(context.Context) *tls.Certificate {
		cert, _ := c.engine.AnswerTLS(hello, true)
		return cert
	}), nil
}

// lookupInStorage calls lookup in the background, for storage can hang. A client
// that gets no answer in time learns as much as from an empty one.
func lookupInStorage[T any](c *challenges, name string, lookup func(context.Context) T) (zero T) {
	select {
	case c.lookupSlots <- struct{}{}:
	default:
		return zero
	}
	ctx, cancel := context.WithTimeout(context.Background(), storageLookupTimeout)
	found, _ := timeout.Call(storageLookupTimeout, func() (T, error) {
		defer func() { <-c.lookupSlots }()
		defer cancel()
		if !c.orderInProgress(name) {
			return zero, nil
		}
		return lookup(ctx), nil
	})
	return found
}

// ChallengedName returns the name that a challenge hello is about. For an address
// the server name is that of its reverse lookup (RFC 8738).
func ChallengedName(serverName string) string {
	name := strings.ToLower(strings.TrimSuffix(serverName, "."))
	if digits, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(digits, ".")
		slices.Reverse(labels)
		return hosts.Addr(strings.Join(labels, "."))
	}
	if nibbles, ok := strings.CutSuffix(name, ".ip6.arpa"); ok {
		labels := strings.Split(nibbles, ".")
		slices.Reverse(labels)
		var b strings.Builder
		for i, l := range labels {
			if i > 0 && i%4 == 0 {
				b.WriteByte(':')
			}
			b.WriteString(l)
		}
		return hosts.Addr(b.String())
	}
	return name
}

// httpHandler answers challenges, and leaves everything else to fallback, also a
// token of no order in progress: fallback can count it.
func (c *challenges) httpHandler(fallback http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, TokenPath) || !c.serveToken(w, r) {
			fallback.ServeHTTP(w, r)
		}
	})
}

// serveToken reads memory, then storage.
func (c *challenges) serveToken(w http.ResponseWriter, r *http.Request) bool {
	name := hosts.FromHeader(r.Host)
	if !slices.Contains(c.names, name) {
		return false
	}
	text := c.engine.AnswerHTTP(r, false)
	if text == nil {
		text = lookupInStorage(c, name, func(ctx context.Context) []byte { return c.engine.AnswerHTTP(r.Clone(ctx), true) })
	}
	if text == nil {
		return false
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(text)
	return true
}
