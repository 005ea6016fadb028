package ratelimit_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"inbox/ratelimit"
)

// Forty requests a second for each address, six hundred at once.
func ExampleRequestLimiter() {
	clientIP := &ratelimit.ClientIP{}
	limit := &ratelimit.RequestLimiter{
		Limiter: ratelimit.NewLimiter(ratelimit.Budget{PerSecond: 40, Burst: 600}, 0),
		Addr:    clientIP.Addr,
	}
	handler := limit.Handler(http.NotFoundHandler())
	answers := map[int]int{}
	for range 1000 {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		answers[w.Code]++
	}
	fmt.Println(answers[404] >= 600, answers[429] > 300)
	// Output: true true
}
