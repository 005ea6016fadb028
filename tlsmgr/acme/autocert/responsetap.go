package autocert

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"inbox/tlsmgr/acme"
)

// responseTap is an http.RoundTripper between autocert and the CA. autocert reports
// neither why a validation failed nor the Retry-After, and cannot be canceled. The tap
// reads both from the responses and cancels each request when ctx ends.
type responseTap struct {
	ctx  context.Context
	next http.RoundTripper

	mu               sync.Mutex
	validationErrors []string      // distinct, as "challenge type: detail"
	retryAfter       time.Duration // of the last response
	sawCertificate   bool          // the CA issued a certificate, which counts against its limits even if invalid
}

func (t *responseTap) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.ctx.Err(); err != nil {
		return nil, err
	}
	resp, err := t.next.RoundTrip(r.WithContext(t.ctx))
	if err != nil {
		return nil, err
	}
	t.inspect(resp)
	return resp, nil
}

func (t *responseTap) inspect(resp *http.Response) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retryAfter = 0
	if resp.StatusCode >= http.StatusBadRequest {
		t.retryAfter = acme.ParseRetryAfter(resp.Header, time.Now())
		return
	}
	if resp.Header.Get("Content-Type") == "application/pem-certificate-chain" {
		t.sawCertificate = true
	}
	if resp.Header.Get("Content-Type") != "application/json" && resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		return
	}
	body, err := io.ReadAll(resp.Body) // bounded by limitedTransport
	resp.Body = readCloser{io.MultiReader(bytes.NewReader(body), resp.Body), resp.Body}
	if err == nil {
		t.parseAuthorizationLocked(body)
	}
}

type readCloser struct {
	io.Reader
	io.Closer
}

// parseAuthorizationLocked records the challenge errors of an invalid authorization.
func (t *responseTap) parseAuthorizationLocked(body []byte) {
	var authorization struct {
		Status     string
		Challenges []struct {
			Type  string
			Error *struct{ Detail string }
		}
	}
	if json.Unmarshal(body, &authorization) != nil || authorization.Status != "invalid" {
		return
	}
	for _, c := range authorization.Challenges {
		if c.Error == nil {
			continue
		}
		if text := c.Type + ": " + c.Error.Detail; !slices.Contains(t.validationErrors, text) {
			t.validationErrors = append(t.validationErrors, text)
		}
	}
}

// issued reports whether the CA issued a certificate.
func (t *responseTap) issued() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sawCertificate
}

func (t *responseTap) result() (validationErrors []string, retryAfter time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.validationErrors), t.retryAfter
}
