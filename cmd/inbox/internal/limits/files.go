package limits

import (
	"net/http"
	"net/netip"
	"time"

	"inbox/ratelimit"
)

// FileLimiter is a middleware for pages from a directory. It bounds the files that they have
// open, one for each response until the client has received it.
type FileLimiter struct {
	// Share divides the number of files.
	Share *ratelimit.Share
	// Addr returns the client's address, as [ratelimit.ClientIP.Addr] does.
	Addr func(*http.Request) netip.Addr
}

// Handler returns next behind the limit.
func (l *FileLimiter) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr := l.Addr(r)
		if !l.Share.Reserve(addr, 1) {
			(&ratelimit.Refusal{
				Limit: "files", Quota: int(l.Share.Limits().MinPerClient), Wait: time.Second,
				Detail: "Too many files are being sent. Receive those that you have requested first.",
			}).Refuse(w)
			return
		}
		defer l.Share.Release(addr, 1)
		next.ServeHTTP(w, r)
	})
}
