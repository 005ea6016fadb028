package metrics

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inbox/tlsmgr"
)

// TestCertificateMetrics checks the certificate metrics and the list on the metrics
// listener.
func TestCertificateMetrics(t *testing.T) {
	at := func(n int64) time.Time { return time.Unix(n, 0) }
	states := []tlsmgr.NameState{
		{Name: "a.example", Source: "acme", NotBefore: at(1), NotAfter: at(2), RenewAt: at(3), Engine: "certmagic", Failures: 4, Obtained: 5, LastError: errors.New("away")},
		{Name: "b.example", Engine: "certmagic"},
		{Name: "c.example", Source: "file", NotBefore: at(6), NotAfter: at(7)},
	}
	want := map[string]float64{
		`not_before_timestamp_seconds{name="a.example",source="acme"}`: 1, `not_after_timestamp_seconds{name="a.example",source="acme"}`: 2,
		`renew_at_timestamp_seconds{name="a.example"}`: 3, `order_failures{name="a.example"}`: 4, `obtained_total{name="a.example"}`: 5, `failing{name="a.example"}`: 1,
		`not_before_timestamp_seconds{name="b.example",source=""}`: 0, `not_after_timestamp_seconds{name="b.example",source=""}`: 0,
		`renew_at_timestamp_seconds{name="b.example"}`: 0, `order_failures{name="b.example"}`: 0, `obtained_total{name="b.example"}`: 0, `failing{name="b.example"}`: 0,
		`not_before_timestamp_seconds{name="c.example",source="file"}`: 6, `not_after_timestamp_seconds{name="c.example",source="file"}`: 7, `failing{name="c.example"}`: 0,
	}
	text := exposition(func(m chan<- prometheus.Metric) { collectCertificates(m, states) })
	got := 0
	for line := range strings.Lines(text) {
		series, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "inbox_certificate_"), " ")
		if strings.HasPrefix(line, "#") {
			continue
		}
		got++
		if n, known := want[series]; !known || value != fmt.Sprint(n) {
			t.Errorf("%s is %s, want %v (expected series: %v)", series, value, n, known)
		}
	}
	if got != len(want) {
		t.Errorf("got %d series, want %d", got, len(want))
	}
	w := httptest.NewRecorder()
	newAdmin(AdminConfig{Sources: Sources{Certificates: func() []tlsmgr.NameState { return states }}}).serveCertificates(w, nil)
	if text := w.Body.String(); !strings.Contains(text, `"LastError":"away"`) || strings.Count(text, `"LastError":""`) != 2 {
		t.Errorf("the list lacks an error, or an empty one for certificates without: %s", text)
	}
}
