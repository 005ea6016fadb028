package certmagic

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/internal/tlstest"
	"inbox/tlsmgr/storage"
)

// Invalid renewal information is an error, so that it does not change the renewal date.
func TestInvalidARIResponse(t *testing.T) {
	respond := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, text)
		}
	}
	window := func(from, to string) http.HandlerFunc {
		return respond(`{"suggestedWindow":{"start":"` + from + `","end":"` + to + `"}}`)
	}
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    string // renewal date; empty for an error
	}{
		{"window in the past", window("2001-01-01T00:00:00Z", "2001-01-02T00:00:00Z"), "2001-01-01"},
		{"window in the far future", window("9998-01-01T00:00:00Z", "9998-01-01T12:00:00Z"), "9998-01-01"},
		{"inverted window", window("2027-02-02T00:00:00Z", "2027-01-01T00:00:00Z"), ""},
		{"empty window", window("2027-02-02T00:00:00Z", "2027-02-02T00:00:00Z"), ""},
		{"window without end", respond(`{"suggestedWindow":{"start":"2027-02-02T00:00:00Z"}}`), ""},
		{"invalid times", window("soon", "later"), ""},
		{"no window", respond(`{}`), ""},
		{"not JSON", respond(`<html>`), ""},
		{"empty body", respond(``), ""},
		{"null", respond(`null`), ""},
		{"redirect loop", tlstest.RedirectLoop, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := tlstest.NewCA(t, tt.handler)
			ca, err := acme.NewCAClient(acme.CA{URL: server.URL, RootsFile: server.RootsFile})
			if err != nil {
				t.Fatal(err)
			}
			nothing := storage.NewDirectory(t.TempDir(), nil)
			e, err := New(&acme.Settings{Names: []string{"one.example"}, CAs: []*acme.CAClient{ca}, Storage: nothing, Challenges: nothing, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 800*time.Millisecond) // the library makes three attempts
			defer cancel()
			cert := tlstest.TLSPair(t, "one.example", time.Now(), time.Now().Add(time.Hour))
			cert.Leaf.AuthorityKeyId = []byte{1} // part of the ARI certificate ID
			r, err := e.RenewalInfo(ctx, &acme.Certificate{Certificate: cert, CA: ca})
			if (err == nil) != (tt.want != "") || err == nil && r.At.Format(time.DateOnly) != tt.want {
				t.Errorf("got %v, %v; want %q", r.At, err, tt.want)
			}
			if n := server.Requests.Load(); n < 1 || n > 30 {
				t.Errorf("got %d requests, want 1 to 30", n)
			}
		})
	}
}
