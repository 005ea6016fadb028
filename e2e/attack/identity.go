package attack

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"inbox/e2e"
)

// guessDuration is how long passwords are guessed.
const guessDuration = 4 * time.Second

// passwordGuessing tries passwords of a name, from one address and from fifty, while
// its owner goes on.
func passwordGuessing(ctx context.Context, s *scenario) {
	owner := s.peer("owner", clientAddr)
	defer owner.HTTP.CloseIdleConnections()
	for _, addrs := range []int{1, 50} {
		if err := wantStatus(ctx, owner, "GET", "?wait=0", http.StatusNoContent); err != nil {
			s.fail("the owner: %v", err)
		}
		compared, refused := s.guess(ctx, addrs)
		s.addFigure("%s: %d guesses compared, %d refused in %v", addresses(addrs), compared, refused, guessDuration)
		if most := int64(10 + guessDuration/(10*time.Second) + 1); compared > most {
			s.fail("%s: %d guesses were compared, want at most %d", addresses(addrs), compared, most)
		}
	}
	if err := wantStatus(ctx, owner, "GET", "?wait=0", http.StatusNoContent); err != nil {
		s.fail("the owner, after the guesses: %v", err)
	}
}

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
				s.fail("a guess got %d", got)
			}
		}
	})
	return unauthorized.Load(), limited.Load()
}

// spoofing pretends to be somebody else with each request.
func spoofing(ctx context.Context, s *scenario) {
	fakeAddr := func(i int) string { return fmt.Sprintf("9.%d.%d.%d", i>>16&255, i>>8&255, i&255) }
	for _, row := range []struct {
		who, from string
		field     string
		value     func(i int) string
	}{
		{"a stranger", attackerAddr(1), "X-Forwarded-For", fakeAddr},
		{"a stranger", attackerAddr(2), "Forwarded", func(i int) string { return "for=" + fakeAddr(i) }},
		{"a stranger", attackerAddr(3), "X-Real-IP", fakeAddr},
		{"a stranger who says to be the proxy", attackerAddr(4), "X-Forwarded-For", func(i int) string { return fakeAddr(i) + ", 127.0.0.1" }},
		{"a client of the proxy", "127.0.0.1", "X-Forwarded-For", func(i int) string { return fakeAddr(i) + ", 198.51.100.7" }},
		{"a client of the proxy with nonsense", "127.0.0.1", "X-Forwarded-For", func(i int) string { return fakeAddr(i) + ", nonsense" }},
	} {
		client := s.http(row.from)
		var ok, limited atomic.Int64
		began := time.Now()
		parallel(800, 8, func(i int) {
			c := &e2e.Client{Server: s.url(), Name: "liar" + row.from + row.who, Password: "x", HTTP: client}
			got, err := requestStatus(ctx, c, "GET", "?wait=0", nil, row.field, row.value(i))
			switch {
			case err != nil: // closed: refused too
			case got == http.StatusTooManyRequests:
				limited.Add(1)
			default:
				ok.Add(1)
			}
		})
		client.CloseIdleConnections()
		if most := int64(600 + 40*(time.Since(began).Seconds()+1)); ok.Load() > most || limited.Load() == 0 {
			s.fail("%s in %s: %d of 800 requests got through, want at most %d", row.who, row.field, ok.Load(), most)
		}
	}
	s.addFigure("6 ways, 800 requests each: every one counted as one address")
}
