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

	mu   sync.Mutex // autocert deactivates authorizations in the background
	seen observation
}

// observation is what the exchange with the CA shows about an order.
type observation struct {
	orderURL, finalizeURL, certURL string

	termsURL         string        // of new terms of service; empty: none
	finalized        bool          // the CA received the CSR
	issued           bool          // the CA issued a certificate, which counts against its limits even if invalid
	validationErrors []string      // distinct, as "challenge type: detail"
	retryAfter       time.Duration // of the last response if it was an error
}

// observed returns what was seen so far.
func (t *responseTap) observed() observation {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := t.seen
	seen.validationErrors = slices.Clone(seen.validationErrors)
	return seen
}

func (t *responseTap) update(change func(*observation)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.seen)
}

func (t *responseTap) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.ctx.Err(); err != nil {
		return nil, err
	}
	seen := t.observed()
	isFinalization := r.Method == http.MethodPost && t.account != nil && r.URL.String() == seen.finalizeURL
	if isFinalization {
		t.update(func(o *observation) { o.finalized = true }) // from now on the CA can issue, whatever it answers
	}
	resp, err := t.next.RoundTrip(r.WithContext(t.ctx))
	switch {
	case err != nil && isFinalization && t.ctx.Err() == nil:
		return t.followOrder(lostAnswer(r))
	case err != nil:
		return nil, err
	}
	t.update(func(o *observation) { o.inspect(resp) })
	switch {
	case isFinalization:
		return t.followOrder(resp)
	case t.account != nil && r.URL.String() == seen.certURL && resp.StatusCode >= http.StatusBadRequest:
		return t.followCertificate(resp)
	}
	return resp, nil
}

func (o *observation) inspect(resp *http.Response) {
	o.retryAfter = 0
	if url := acme.TermsLink(resp.Header); url != "" {
		o.termsURL = url
	}
	if resp.StatusCode >= http.StatusBadRequest {
		o.retryAfter = acme.ParseRetryAfter(resp.Header, time.Now())
		return
	}
	if resp.Header.Get("Content-Type") == "application/pem-certificate-chain" {
		o.issued = true
	}
	if resp.Header.Get("Content-Type") != "application/json" && resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		return
	}
	body, err := io.ReadAll(resp.Body) // bounded by limitedTransport
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), resp.Body), resp.Body}
	if err == nil {
		o.parseOrder(body, resp.Header.Get("Location"))
		o.parseAuthorization(body)
	}
}

// parseOrder records the URLs of an order.
func (o *observation) parseOrder(body []byte, location string) {
	var order struct{ Finalize, Certificate string }
	if json.Unmarshal(body, &order) != nil || order.Finalize == "" {
		return
	}
	o.finalizeURL = order.Finalize
	if location != "" {
		o.orderURL = location
	}
	if order.Certificate != "" {
		o.certURL = order.Certificate
	}
}

// parseAuthorization records the challenge errors of an invalid authorization.
func (o *observation) parseAuthorization(body []byte) {
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
		if text := c.Type + ": " + c.Error.Detail; !slices.Contains(o.validationErrors, text) {
			o.validationErrors = append(o.validationErrors, text)
		}
	}
}
