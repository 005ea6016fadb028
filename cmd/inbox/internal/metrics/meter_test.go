package metrics

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

var testRoutes = Routes{Mailbox: "/inbox", ICE: "/ice"}

// TestLatencyExcludesRefusals checks that rejected requests, which are delayed on purpose,
// and requests of disconnected clients are not timed.
func TestLatencyExcludesRefusals(t *testing.T) {
	m := NewMeter(nil)
	for _, handler := range []http.HandlerFunc{
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) },
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(999) },
	} {
		func() {
			defer func() { recover() }()
			m.Handler(testRoutes.Of, handler).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/ice", nil))
		}()
	}
	text := exposition(m.Collect)
	for _, want := range []string{
		`inbox_requests_total{code="499",route="/ice"} 1`, `inbox_requests_total{code="429",route="/ice"} 1`,
		`inbox_requests_total{code="599",route="/ice"} 1`, `inbox_request_duration_seconds_count{route="/ice"} 2`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// exposition returns the metrics of c in text format.
func exposition(c prometheus.CollectorFunc) string {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

// BenchmarkMeter measures the overhead of the metrics per request.
func BenchmarkMeter(b *testing.B) {
	body := []byte("hello")
	inner := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) })
	for _, row := range []struct {
		name    string
		handler http.Handler
	}{{"without", inner}, {"with", NewMeter(nil).Handler(testRoutes.Of, inner)}} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := httptest.NewRequest("GET", "/inbox", nil)
				var w http.ResponseWriter = &discardResponse{}
				for pb.Next() {
					row.handler.ServeHTTP(w, r)
				}
			})
		})
	}
}

// discardResponse discards a response.
type discardResponse struct{}

func (discardResponse) Header() http.Header         { return http.Header{} }
func (discardResponse) Write(b []byte) (int, error) { return len(b), nil }
func (discardResponse) WriteHeader(int)             {}

var _ io.ReaderFrom = (*metered)(nil) // for sendfile
