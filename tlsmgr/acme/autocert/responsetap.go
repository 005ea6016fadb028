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

	acmelib "golang.org/x/crypto/acme"

	"inbox/tlsmgr/acme"
)

// responseTap is an http.RoundTripper between autocert and the CA. autocert reports
// neither why a validation failed nor the Retry-After, and cannot be canceled. The tap
// reads both from the responses and cancels each request when ctx ends.
type responseTap struct {
	ctx  context.Context
	next http.RoundTripper
	// account asks about a finalized order, and for its certificate; nil: it cannot.
	account *acmelib.Client

	mu               sync.Mutex
	order            orderURLs
	termsURL         string        // of new terms of service
	sawFinalization  bool          // the CA got the CSR
	validationErrors []string      // distinct, as "challenge type: detail"
	retryAfter       time.Duration // of the last response
	sawCertificate   bool          // the CA issued a certificate, which counts against its limits even if invalid
}

func (t *responseTap) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.ctx.Err(); err != nil {
		return nil, err
	}
	order := t.orderURLs()
	isFinalization := r.Method == http.MethodPost && t.account != nil && r.URL.String() == order.finalizeURL
	if isFinalization {
		t.markFinalized() // from now on the CA can issue, whatever it answers
	}
	resp, err := t.next.RoundTrip(r.WithContext(t.ctx))
	switch {
	case err != nil && isFinalization && t.ctx.Err() == nil:
		return t.followOrder(lostAnswer(r))
	case err != nil:
		return nil, err
	}
	t.inspect(resp)
	switch {
	case isFinalization:
		return t.followOrder(resp)
	case t.account != nil && r.URL.String() == order.certURL && resp.StatusCode >= http.StatusBadRequest:
		return t.followCertificate(resp)
	}
	return resp, nil
}

func (t *responseTap) orderURLs() orderURLs {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.order
}

func (t *responseTap) markFinalized() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sawFinalization = true
}

// orderURLs are the URLs of the order in progress.
type orderURLs struct{ url, finalizeURL, certURL string }

// finalized reports whether the CA got the CSR.
func (t *responseTap) finalized() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sawFinalization
}

// terms returns the URL of new terms of service; empty: none.
func (t *responseTap) terms() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.termsURL
}

func (t *responseTap) inspect(resp *http.Response) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retryAfter = 0
	if url := acme.TermsLink(resp.Header); url != "" {
		t.termsURL = url
	}
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
		t.parseOrderLocked(body, resp.Header.Get("Location"))
		t.parseAuthorizationLocked(body)
	}
}

type readCloser struct {
	io.Reader
	io.Closer
}

// parseOrderLocked records the URLs of an order.
func (t *responseTap) parseOrderLocked(body []byte, location string) {
	var order struct{ Finalize, Certificate string }
	if json.Unmarshal(body, &order) != nil || order.Finalize == "" {
		return
	}
	t.order.finalizeURL = order.Finalize
	if location != "" {
		t.order.url = location
	}
	if order.Certificate != "" {
		t.order.certURL = order.Certificate
	}
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
