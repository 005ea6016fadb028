package tlsmgr

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// acmeALPNProto is the only ALPN protocol in a tls-alpn-01 validation (RFC 8737).
	acmeALPNProto = "acme-tls/1"
	// tokenPath is the path prefix of http-01 challenges (RFC 8555, section 8.3).
	tokenPath = "/.well-known/acme-challenge/"
	// maxStorageLookups bounds concurrent challenge lookups in storage, and
	// storageLookupTimeout bounds how long a client waits for one.
	maxStorageLookups    = 16
	storageLookupTimeout = 2 * time.Second
	// lockCacheTTL is how long the lock state is cached. Checking a lock can hold it
	// briefly, so frequent requests must not block a process that wants to order.
	lockCacheTTL = 100 * time.Millisecond
)

// challenges answers ACME challenges. Any client can send such a request, so only
// configured names are looked up. Storage is read only while some process has an
// order in progress, with a bound on concurrent lookups.
type challenges struct {
	names       []string
	engine      engine
	checkLock   func(name string) bool // whether an order is in progress; reads storage
	lookupSlots chan struct{}

	mu        sync.Mutex
	lockCache map[string]lockState
}

// lockState is the cached result of a lock check.
type lockState struct {
	checkedAt time.Time
	locked    bool
}

func newChallenges(names []string, e engine, checkLock func(string) bool) *challenges {
	return &challenges{
		names: names, engine: e, checkLock: checkLock,
		lookupSlots: make(chan struct{}, maxStorageLookups), lockCache: map[string]lockState{},
	}
}

// orderInProgress reports whether any process has an order for the name in
// progress. The result is up to lockCacheTTL old.
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

func isChallenge(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acmeALPNProto
}

// getCertificate answers a tls-alpn-01 validation. It returns nil, nil for an
// unknown challenge, upon which crypto/tls sends an unrecognized_name alert.
func (c *challenges) getCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := challengedName(hello.ServerName)
	if !slices.Contains(c.names, name) {
		return nil, nil
	}
	if cert, err := c.engine.answerTLS(hello, false); cert != nil && err == nil {
		return cert, nil
	}
	return lookupInStorage(c, name, func(context.Context) *tls.Certificate {
		cert, _ := c.engine.answerTLS(hello, true)
		return cert
	}), nil
}

// lookupInStorage runs lookup in the background, because storage can hang. It
// returns the zero value after storageLookupTimeout, when no slot is free, or when
// no order is in progress.
func lookupInStorage[T any](c *challenges, name string, lookup func(context.Context) T) (zero T) {
	if !c.acquireSlot() {
		return zero
	}
	ctx, cancel := context.WithTimeout(context.Background(), storageLookupTimeout)
	result := make(chan T, 1)
	go func() {
		defer c.releaseSlot()
		defer cancel()
		found := zero
		if c.orderInProgress(name) {
			found = lookup(ctx)
		}
		result <- found
	}()
	select {
	case found := <-result:
		return found
	case <-ctx.Done():
	}
	select { // both can be ready: the goroutine cancels ctx after sending
	case found := <-result:
		return found
	default:
		return zero
	}
}

// acquireSlot takes a lookup slot if one is free.
func (c *challenges) acquireSlot() bool {
	select {
	case c.lookupSlots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (c *challenges) releaseSlot() { <-c.lookupSlots }

// challengedName returns the name that a tls-alpn-01 validation is for. For an IP
// address the SNI is the name of its reverse lookup (RFC 8738).
func challengedName(sni string) string {
	name := strings.ToLower(strings.TrimSuffix(sni, "."))
	if digits, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(digits, ".")
		slices.Reverse(labels)
		return addrString(strings.Join(labels, "."))
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
		return addrString(b.String())
	}
	return name
}

func addrString(text string) string {
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return ""
	}
	return ip.String()
}

// httpHandler answers http-01 challenges and passes all other requests to fallback,
// including those with an unknown token, so that fallback can rate-limit them.
func (c *challenges) httpHandler(fallback http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, tokenPath) || !c.serveToken(w, r) {
			fallback.ServeHTTP(w, r)
		}
	})
}

// serveToken writes the answer to an http-01 challenge. It looks in memory, then in
// storage, and returns false without writing when the token is unknown.
func (c *challenges) serveToken(w http.ResponseWriter, r *http.Request) bool {
	name := hostOf(r.Host)
	if !slices.Contains(c.names, name) {
		return false
	}
	text := c.engine.answerHTTP(r, false)
	if text == nil {
		text = lookupInStorage(c, name, func(ctx context.Context) []byte { return c.engine.answerHTTP(r.Clone(ctx), true) })
	}
	if text == nil {
		return false
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(text)
	return true
}

// hostOf returns the host of a Host header without the port, normalized as by
// canonicalName.
func hostOf(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") && (strings.Count(host, ":") == 1 || host[0] == '[') {
		host = host[:i]
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if bare := strings.Trim(host, "[]"); isIP(bare) {
		return addrString(bare)
	}
	return host
}
