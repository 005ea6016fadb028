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
	// acmeProtocol is offered alone by an authority that validates.
	acmeProtocol = "acme-tls/1"
	// tokenPath is where an authority looks on port 80.
	tokenPath = "/.well-known/acme-challenge/"
	// deepLooks bounds the challenges that are looked up on the disk at once,
	// and deepTime how long a client waits for one.
	deepLooks = 16
	deepTime  = 2 * time.Second
	// lookedAt is how long it is remembered whether an order runs. To find out
	// is to touch its lock: a stranger who asks without pause must not keep it
	// from whoever wants to order.
	lookedAt = 100 * time.Millisecond
)

// challenges answers authorities. Anybody can ask like one, so only configured
// names are looked up, on the disk only while an order runs in some process,
// and there only a few at once.
type challenges struct {
	names  []string
	engine engine
	ask    func(name string) bool // whether an order runs; asks the disk
	slots  chan struct{}

	mu     sync.Mutex
	looked map[string]looked
}

// looked is what a look at a lock has shown.
type looked struct {
	at       time.Time
	ordering bool
}

func newChallenges(names []string, e engine, ask func(string) bool) *challenges {
	return &challenges{names: names, engine: e, ask: ask, slots: make(chan struct{}, deepLooks), looked: map[string]looked{}}
}

// ordering tells whether an order for the name runs, in whatever process.
func (c *challenges) ordering(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l, ok := c.looked[name]; ok && time.Since(l.at) < lookedAt {
		return l.ordering
	}
	now := c.ask(name)
	c.looked[name] = looked{time.Now(), now}
	return now
}

func isChallenge(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acmeProtocol
}

// tls answers a challenge hello. (nil, nil) makes crypto/tls say
// unrecognized_name.
func (c *challenges) tls(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := challengedName(hello.ServerName)
	if !slices.Contains(c.names, name) {
		return nil, nil
	}
	if cert, err := c.engine.answerTLS(hello, false); cert != nil && err == nil {
		return cert, nil
	}
	return deep(c, name, func(context.Context) *tls.Certificate {
		cert, _ := c.engine.answerTLS(hello, true)
		return cert
	}), nil
}

// deep looks on the disk, in the background, for the disk may hang. Whoever
// hears nothing in time learns just as much as one who is told that there is
// nothing.
func deep[T any](c *challenges, name string, look func(context.Context) T) (none T) {
	if !c.enter() {
		return none
	}
	ctx, cancel := context.WithTimeout(context.Background(), deepTime)
	answer := make(chan T, 1)
	go func() {
		defer c.leave()
		defer cancel()
		found := none
		if c.ordering(name) {
			found = look(ctx)
		}
		answer <- found
	}()
	select {
	case found := <-answer:
		return found
	case <-ctx.Done():
	}
	select { // what was found ended the waiting, too
	case found := <-answer:
		return found
	default:
		return none
	}
}

// enter takes one of the places at the disk, unless too many are there.
func (c *challenges) enter() bool {
	select {
	case c.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (c *challenges) leave() { <-c.slots }

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

// http puts the answers to challenges before fallback, which gets what is no
// token of an order that is under way, too, and may count it.
func (c *challenges) http(fallback http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, tokenPath) || !c.answered(w, r) {
			fallback.ServeHTTP(w, r)
		}
	})
}

// answered looks into memory, then on the disk.
func (c *challenges) answered(w http.ResponseWriter, r *http.Request) bool {
	name := hostOf(r.Host)
	if !slices.Contains(c.names, name) {
		return false
	}
	text := c.engine.answerHTTP(r, false)
	if text == nil {
		text = deep(c, name, func(ctx context.Context) []byte { return c.engine.answerHTTP(r.Clone(ctx), true) })
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
