package tlstest

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// CA is a server with a valid ACME directory. A handler serves all other paths.
type CA struct {
	// BaseURL is the URL of the server, and URL that of its directory.
	BaseURL, URL string
	// RootsFile contains the certificate of the server.
	RootsFile string
	// Requests counts the requests to the handler.
	Requests atomic.Int64
}

// NewCA starts a CA.
func NewCA(t *testing.T, handler http.HandlerFunc) *CA {
	t.Helper()
	mux := http.NewServeMux()
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	ca := &CA{BaseURL: server.URL + "/", URL: server.URL + "/directory", RootsFile: filepath.Join(t.TempDir(), "roots.pem")}
	MustWriteFile(t, ca.RootsFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	mux.HandleFunc("/directory", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"newNonce":"%[1]s/n","newAccount":"%[1]s/a","newOrder":"%[1]s/o","renewalInfo":"%[1]s/ari"}`, server.URL)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		ca.Requests.Add(1)
		handler(w, r)
	})
	return ca
}

// RedirectLoop redirects to itself.
func RedirectLoop(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
}

// Endless returns a handler that sends up to 64 MiB and counts the sent bytes.
func Endless(contentType string, sentBytes *atomic.Int64) http.HandlerFunc {
	text := make([]byte, 64<<10)
	for i := range text {
		text[i] = 'x'
	}
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Replay-Nonce", "nonce")
		w.Header().Set("Content-Type", contentType)
		if contentType == "application/problem+json" {
			w.WriteHeader(http.StatusBadRequest)
		}
		if r.Method == http.MethodHead {
			return
		}
		_, err := fmt.Fprint(w, `{"status":"`)
		for ; err == nil && sentBytes.Load() < 64<<20; sentBytes.Add(int64(len(text))) {
			_, err = w.Write(text)
		}
	}
}
