package inbox_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// name16 returns a name of 16 bytes, as in docs/benchmarks.md.
func name16(i int) string { return fmt.Sprintf("peer-%011d", i) }

// BenchmarkRelay is a POST and the GET that reads it, without a network.
func BenchmarkRelay(b *testing.B) {
	h := inbox.NewHandler(inbox.Config{
		Store:  memstore.New(inbox.Limits{Timeout: time.Minute, Capacity: 100, MaxInboxes: 1000, MaxQueuedBytes: 1 << 28}),
		Secret: make([]byte, 32), Path: "/inbox", PollTimeout: 25 * time.Second, MaxBodyBytes: 1 << 20,
	})
	relay(b, h)
}

// BenchmarkRelayBare is the cost of the test harness: the same requests to a handler
// that reads the body and writes it back.
func BenchmarkRelayBare(b *testing.B) {
	queue := make(chan []byte, 1000)
	relay(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			body, _ := io.ReadAll(r.Body)
			queue <- body
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(<-queue)
	}))
}

func relay(b *testing.B, h http.Handler) {
	body := strings.Repeat("x", 1500)
	var pair atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		i := int(pair.Add(1))
		get := request(name16(2*i), "GET", "/inbox?wait=0", "")
		post := request(name16(2*i+1), "POST", "/inbox?to="+name16(2*i), "")
		if _, bare := h.(http.HandlerFunc); !bare {
			h.ServeHTTP(httptest.NewRecorder(), get)
		}
		for pb.Next() {
			post.Body, post.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			h.ServeHTTP(httptest.NewRecorder(), post)
			h.ServeHTTP(httptest.NewRecorder(), get)
		}
	})
}
