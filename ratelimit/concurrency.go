package ratelimit

import (
	"cmp"
	"errors"
	"net/http"
	"net/netip"
	"time"
)

// ConcurrencyLimiter bounds what is in progress, such as long polls that wait: as a middleware all
// requests of a handler, and with Enter a part of them. Connection limits do not bound them,
// because HTTP/2 carries many on one connection.
type ConcurrencyLimiter struct {
	// Limit is the name of the limit, a token. Detail is a sentence for a person.
	Limit, Detail string
	// Share divides the number of requests.
	Share *Share
	// Addr returns the client's address, as [ClientIP.Addr] does.
	Addr func(*http.Request) netip.Addr
}

// Handler returns next behind the limit.
func (l *ConcurrencyLimiter) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leave, err := l.Enter(r)
		if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
			refusal.Refuse(w)
			return
		}
		defer leave()
		next.ServeHTTP(w, r)
	})
}

// Enter counts a part of a request, such as its wait for a message, or what outlives it, such as a
// hijacked connection: until leave, which must be called once. The error is a [Refusal].
func (l *ConcurrencyLimiter) Enter(r *http.Request) (leave func(), err error) {
	addr := l.Addr(r)
	if l.Share.Reserve(addr, 1) {
		return func() { l.Share.Release(addr, 1) }, nil
	}
	limits := l.Share.Limits()
	quota := cmp.Or(limits.MaxPerClient, limits.MinPerClient)
	return nil, &Refusal{Limit: l.Limit, Quota: int(quota), Wait: time.Second, Detail: l.Detail}
}
