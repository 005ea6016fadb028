package attack

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"inbox/e2e"
)

// guessDuration is the duration of one round of guesses.
const guessDuration = 4 * time.Second

// passwordGuessing guesses the password of a name, from one address and then from fifty. The
// owner must keep access.
func passwordGuessing(ctx context.Context, s *scenario) {
	owner := s.peer("owner", clientAddr)
	defer owner.HTTP.CloseIdleConnections()
	for _, addrs := range []int{1, 50} {
		if err := wantStatus(ctx, owner, "GET", "?wait=0", http.StatusNoContent); err != nil {
			s.fail("owner: %v", err)
		}
		compared, refused := s.guess(ctx, addrs)
		s.addFigure("%s: %d guesses compared, %d refused in %v", addresses(addrs), compared, refused, guessDuration)
		most := int64(10 + guessDuration/(10*time.Second) + 1)
		if addrs > 1 { // each is a network; together they have sixteen budgets, and then one try each
			most = 16*most + int64(addrs)
		}
		if compared > most {
			s.fail("%s: got %d compared guesses, want at most %d", addresses(addrs), compared, most)
		}
	}
	if err := wantStatus(ctx, owner, "GET", "?wait=0", http.StatusNoContent); err != nil {
		s.fail("owner, after the guesses: %v", err)
	}
}

// guess sends wrong passwords and returns how many the server compared (401), and how many
// it refused without a comparison (429).
func (s *scenario) guess(ctx context.Context, addrs int) (compared, refused int64) {
	ctx, cancel := context.WithTimeout(ctx, guessDuration)
	defer cancel()
	var unauthorized, limited atomic.Int64
	parallel(min(addrs, 8)*2, 16, func(worker int) {
		for i := worker; ctx.Err() == nil && i < worker+16*60; i += 16 {
			p := s.peer("owner", attackerAddr(i%addrs))
			p.Password = fmt.Sprint("guess", i)
			p.HTTP.Transport.(*http.Transport).DisableKeepAlives = true
			got, err := requestStatus(ctx, p, "GET", "?wait=0", nil)
			switch {
			case err != nil:
			case got == http.StatusUnauthorized:
				unauthorized.Add(1)
			case got == http.StatusTooManyRequests:
				limited.Add(1)
			default:
				s.fail("guess: got %d, want 401 or 429", got)
			}
		}
	})
	return unauthorized.Load(), limited.Load()
}

// spoofing sends requests with another forged client address each. All of them must count
// as one address.
func spoofing(ctx context.Context, s *scenario) {
	fakeAddr := func(i int) string { return fmt.Sprintf("9.%d.%d.%d", i>>16&255, i>>8&255, i&255) }
	for _, row := range []struct {
		who, from string
		field     string
		value     func(i int) string
	}{
		{"untrusted client", attackerAddr(1), "X-Forwarded-For", fakeAddr},
		{"untrusted client", attackerAddr(2), "Forwarded", func(i int) string { return "for=" + fakeAddr(i) }},
		{"untrusted client", attackerAddr(3), "X-Real-IP", fakeAddr},
		{"untrusted client posing as the proxy", attackerAddr(4), "X-Forwarded-For", func(i int) string { return fakeAddr(i) + ", 127.0.0.1" }},
		{"client of the proxy", "127.0.0.1", "X-Forwarded-For", func(i int) string { return fakeAddr(i) + ", 198.51.100.7" }},
		{"client of the proxy with an invalid address", "127.0.0.1", "X-Forwarded-For", func(i int) string { return fakeAddr(i) + ", nonsense" }},
	} {
		client := s.http(row.from)
		var ok, limited atomic.Int64
		began := time.Now()
		parallel(800, 8, func(i int) {
			c := &e2e.Client{Server: s.url(), Name: "spoofer" + row.from + row.who, Password: "x", HTTP: client}
			got, err := requestStatus(ctx, c, "GET", "?wait=0", nil, row.field, row.value(i))
			switch {
			case err != nil: // a closed connection is a refusal too
			case got == http.StatusTooManyRequests:
				limited.Add(1)
			default:
				ok.Add(1)
			}
		})
		client.CloseIdleConnections()
		if most := int64(600 + 40*(time.Since(began).Seconds()+1)); ok.Load() > most || limited.Load() == 0 {
			s.fail("%s, %s: got %d of 800 requests accepted and %d limited, want at most %d accepted", row.who, row.field, ok.Load(), limited.Load(), most)
		}
	}
	s.addFigure("6 ways, 800 requests each: each counted as one address")
}
