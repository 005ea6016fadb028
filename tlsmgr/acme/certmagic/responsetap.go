package certmagic

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"inbox/tlsmgr/acme"
)

// responseTap is an http.RoundTripper between acmez and the CA. It records the status and
// the Retry-After of the last response, which acmez does not report. It also removes the
// ARI URL from the directory: acmez requests ARI between the download of a certificate and
// its return, and a CA that does not respond would make it lose the certificate. acmez
// sends one request after the other, so there is no lock.
type responseTap struct {
	next         http.RoundTripper
	directoryURL string

	status     int           // of the last response; 0 if the last request failed
	retryAfter time.Duration // of the last response; zero without one
	termsURL   string        // of new terms of service, or empty
}

func (t *responseTap) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		t.status, t.retryAfter = 0, 0
		return nil, err
	}
	t.status, t.retryAfter = resp.StatusCode, acme.ParseRetryAfter(resp.Header, time.Now())
	if url := acme.TermsLink(resp.Header); url != "" {
		t.termsURL = url
	}
	if r.Method == http.MethodGet && strings.TrimSuffix(r.URL.String(), "#"+r.URL.Fragment) == t.directoryURL && resp.StatusCode == http.StatusOK {
		return withoutRenewalInfo(resp)
	}
	return resp, nil
}

// errorRetryAfter returns the Retry-After of the last response if it was an error.
func (t *responseTap) errorRetryAfter() time.Duration {
	if t.status < http.StatusBadRequest {
		return 0
	}
	return t.retryAfter
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
