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
	// maxStorageLookups bounds the concurrent lookups of challenges in storage, and
	// storageLookupTimeout the duration of one.
	maxStorageLookups    = 16
	storageLookupTimeout = 2 * time.Second
	// lockCacheTTL is how long the state of a lock is cached. Reading the state acquires
	// the lock for a moment, and clients must not be able to keep a process from
	// acquiring it.
	lockCacheTTL = 100 * time.Millisecond
)

// challenges responds to the validation requests of CAs. Any client can send such
// requests, so only configured names are looked up: in storage only while a process is
// ordering for the name, and with bounded concurrency.
type challenges struct {
	names       []string
	engine      Engine
	checkLock   func(name string) bool // whether a process is ordering; reads storage
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

// orderInProgress reports whether a process is ordering for the name. It caches the result.
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

// IsChallenge reports whether a handshake is a tls-alpn-01 validation.
func IsChallenge(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == ALPNProto
}

// getCertificate returns the certificate for a tls-alpn-01 validation. If it returns nil,
// nil, crypto/tls sends the alert unrecognized_name.
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

// lookupInStorage calls lookup with a timeout, because storage can hang. It returns the
// zero value if there is no result in time.
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

// ChallengedName returns the name or IP address that a tls-alpn-01 validation is for. The
// server name of an IP address is that of its reverse lookup (RFC 8738).
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

// httpHandler responds to http-01 challenges and passes all other requests to fallback,
// also those with an unknown token, so that fallback can count them.
func (c *challenges) httpHandler(fallback http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, TokenPath) || !c.serveToken(w, r) {
			fallback.ServeHTTP(w, r)
		}
	})
}

// serveToken looks the token up in memory, then in storage. It reports whether it has
// responded.
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
