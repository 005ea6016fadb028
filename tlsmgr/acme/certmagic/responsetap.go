package certmagic

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"inbox/tlsmgr/acme"
)

// responseTap is an http.RoundTripper between acmez and the CA. acmez reports
// neither the status of every response nor Retry-After, and asks for renewal
// information between the download of a certificate and its delivery, where a CA
// that does not answer would cost the certificate. The tap removes that URL from
// the directory.
type responseTap struct {
	next         http.RoundTripper
	directoryURL string

	mu         sync.Mutex
	lastStatus int // of the last response; 0: the last request got none
	lastWait   time.Duration
	termsURL   string
}

func (t *responseTap) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.lastStatus, t.lastWait = 0, 0
		return nil, err
	}
	t.lastStatus, t.lastWait = resp.StatusCode, acme.ParseRetryAfter(resp.Header, time.Now())
	if url := acme.TermsLink(resp.Header); url != "" {
		t.termsURL = url
	}
	if r.Method == http.MethodGet && strings.TrimSuffix(r.URL.String(), "#"+r.URL.Fragment) == t.directoryURL && resp.StatusCode == http.StatusOK {
		return withoutRenewalInfo(resp)
	}
	return resp, nil
}

// status returns the status of the last response, 0 for none.
func (t *responseTap) status() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lastStatus
}

// retryAfter returns the Retry-After of the last response; zero: none.
func (t *responseTap) retryAfter() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lastWait
}

// errorRetryAfter returns that of the last response if it was an error.
func (t *responseTap) errorRetryAfter() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lastStatus < http.StatusBadRequest {
		return 0
	}
	return t.lastWait
}

// terms returns the URL of new terms of service; empty: none.
func (t *responseTap) terms() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.termsURL
}

func withoutRenewalInfo(resp *http.Response) (*http.Response, error) {
	text, err := io.ReadAll(resp.Body) // bounded by the transport of the CA
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	var directory map[string]json.RawMessage
	if json.Unmarshal(text, &directory) == nil && directory["renewalInfo"] != nil {
		delete(directory, "renewalInfo")
		if shorter, err := json.Marshal(directory); err == nil {
			text = shorter
		}
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	return resp, nil
}
