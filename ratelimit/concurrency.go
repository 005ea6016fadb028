package ratelimit

import (
	"cmp"
	"net/http"
	"net/netip"
	"time"
)

// ConcurrencyLimiter is a middleware that bounds the requests in progress, such as long polls.
// Connection limits do not bound them, because HTTP/2 carries many on one connection.
type ConcurrencyLimiter struct {
	// Limit is the name of the limit, a token. Detail is a sentence for a person.
	Limit, Detail string
	// Share divides the number of requests.
	Share *Share
	// Addr returns the client's address, as [ClientIP.Addr] does.
	Addr func(*http.Request) netip.Addr
	// Applies reports which requests are limited. Nil is all.
	Applies func(*http.Request) bool
}

// Handler returns next behind the limit.
func (l *ConcurrencyLimiter) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.Applies != nil && !l.Applies(r) {
			next.ServeHTTP(w, r)
			return
		}
		addr := l.Addr(r)
		if !l.Share.Reserve(addr, 1) {
			l.refusal().Refuse(w)
			return
		}
		defer l.Share.Release(addr, 1)
		next.ServeHTTP(w, r)
	})
}

// Enter counts what goes on after its request, such as a hijacked connection, for as long as it
// takes: until leave, which must be called once. The error is a [Refusal].
func (l *ConcurrencyLimiter) Enter(r *http.Request) (leave func(), err error) {
	addr := l.Addr(r)
	if !l.Share.Reserve(addr, 1) {
		return nil, l.refusal()
	}
	return func() { l.Share.Release(addr, 1) }, nil
}

func (l *ConcurrencyLimiter) refusal() *Refusal {
	limits := l.Share.Limits()
	quota := cmp.Or(limits.MaxPerClient, limits.MinPerClient)
	return &Refusal{Limit: l.Limit, Quota: int(quota), Wait: time.Second, Detail: l.Detail}
}
