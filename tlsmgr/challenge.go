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
	// acmeALPNProto is offered alone by an authority that validates.
	acmeALPNProto = "acme-tls/1"
	// tokenPath is where an authority looks on port 80.
	tokenPath = "/.well-known/acme-challenge/"
	// maxStorageLookups bounds the challenges that are looked up on the disk at once,
	// and deepTime how long a client waits for one.
	maxStorageLookups    = 16
	storageLookupTimeout = 2 * time.Second
	// lockCacheTTL is how long it is remembered whether an order runs. To find out
	// is to touch its lock: a stranger who asks without pause must not keep it
	// from whoever wants to order.
	lockCacheTTL = 100 * time.Millisecond
)

// challenges answers authorities. Anybody can ask like one, so only configured
// names are looked up, on the disk only while an order runs in some process,
// and there only a few at once.
type challenges struct {
	names       []string
	engine      engine
	checkLock   func(name string) bool // whether an order runs; asks the disk
	lookupSlots chan struct{}

	mu        sync.Mutex
	lockCache map[string]lockState
}

// lockState is what a look at a lock has shown.
type lockState struct {
	checkedAt time.Time
	locked    bool
}

func newChallenges(names []string, e engine, checkLock func(string) bool) *challenges {
	return &challenges{names: names, engine: e, checkLock: checkLock, lookupSlots: make(chan struct{}, maxStorageLookups), lockCache: map[string]lockState{}}
}

// orderInProgress tells whether an order for the name runs, in whatever process.
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

// getCertificate answers a challenge hello. (nil, nil) makes crypto/tls say
// unrecognized_name.
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

// lookupInStorage looks on the disk, in the background, for the disk may hang. Whoever
// hears nothing in time learns just as much as one who is told that there is
// nothing.
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
	select { // what was found ended the waiting, too
	case found := <-result:
		return found
	default:
		return zero
	}
}

// acquireSlot takes one of the places at the disk, unless too many are there.
func (c *challenges) acquireSlot() bool {
	select {
	case c.lookupSlots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (c *challenges) releaseSlot() { <-c.lookupSlots }

// challengedName is the name of a challenge hello; for an address, that is
// the name of its reverse look-up (RFC 8738).
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

// httpHandler puts the answers to challenges before fallback, which gets what is no
// token of an order that is under way, too, and may count it.
func (c *challenges) httpHandler(fallback http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, tokenPath) || !c.serveToken(w, r) {
			fallback.ServeHTTP(w, r)
		}
	})
}

// serveToken looks into memory, then on the disk.
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

// hostOf is the name in a Host header, without its port, as canonical writes it.
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
