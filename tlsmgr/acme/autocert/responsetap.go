package autocert

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	acmelib "golang.org/x/crypto/acme"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/internal/timeout"
)

// responseTap is an http.RoundTripper between autocert and the CA. It records why a
// validation failed and the Retry-After, which autocert does not report, and cancels
// requests when ctx ends, because autocert cannot be canceled.
type responseTap struct {
	ctx  context.Context
	next http.RoundTripper
	// account polls finalized orders and downloads certificates; nil before registration.
	account *acmelib.Client

	mu   sync.Mutex // autocert deactivates authorizations in the background
	seen observation
}

// observed returns a copy of the current observation.
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
		t.update(func(o *observation) { o.finalized = true }) // from now on the CA can issue, whatever it responds
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

// A finalized order is polled for pollLimit, at intervals that double from pollIntervalMin
// to pollIntervalMax. The certificate is requested up to downloadAttempts times.
const (
	pollLimit                        = 90 * time.Second
	pollIntervalMin, pollIntervalMax = 500 * time.Millisecond, 10 * time.Second
	downloadAttempts                 = 5
)

// followOrder polls the order if the response to its finalization is not conclusive, and
// returns a response with the final status: autocert would treat it as a failure, discard
// the key and order again, although the CA issues. It returns a refusal unchanged if the
// order is still ready, so that autocert can retry after a server error.
func (t *responseTap) followOrder(resp *http.Response) (*http.Response, error) {
	body, err := io.ReadAll(resp.Body) // bounded by limitedTransport
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	var answer struct{ Status string }
	_ = json.Unmarshal(body, &answer)
	isRefused := resp.StatusCode >= http.StatusBadRequest
	if isRefused && t.account == nil || !isRefused && (answer.Status == acmelib.StatusValid || answer.Status == acmelib.StatusInvalid) {
		return resp, nil
	}
	orderURL := t.observed().orderURL
	deadline, status := time.Now().Add(pollLimit), answer.Status
	for interval := pollIntervalMin; time.Now().Before(deadline); interval = min(2*interval, pollIntervalMax) {
		if err := timeout.Sleep(t.ctx, interval); err != nil {
			return nil, err
		}
		order, err := t.account.GetOrder(t.ctx, orderURL)
		if err != nil {
			continue
		}
		switch status = order.Status; {
		case status == acmelib.StatusValid || status == acmelib.StatusInvalid:
			return t.answerWith(resp, order)
		case isRefused && (status == acmelib.StatusReady || status == acmelib.StatusPending):
			return resp, nil
		}
	}
	return nil, fmt.Errorf("%w: the name is validated, and order %s is %s", acme.ErrOrderPending, orderURL, status)
}

// lostAnswer returns a response for a request that failed.
func lostAnswer(r *http.Request) *http.Response {
	return &http.Response{Status: "502 no answer", StatusCode: http.StatusBadGateway, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, Request: r}
}

// answerWith returns a response with the status of the order.
func (t *responseTap) answerWith(resp *http.Response, o *acmelib.Order) (*http.Response, error) {
	t.update(func(seen *observation) { seen.certURL = o.CertURL })
	object := map[string]any{"status": o.Status, "certificate": o.CertURL, "finalize": o.FinalizeURL, "authorizations": o.AuthzURLs}
	if o.Error != nil {
		object["error"] = map[string]any{"type": o.Error.ProblemType, "detail": o.Error.Detail, "status": o.Error.StatusCode}
	}
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	answer := newAnswer(resp, "application/json", text)
	answer.Header.Set("Location", t.observed().orderURL)
	return answer, nil
}

// newAnswer returns a response that replaces resp and has its nonce.
func newAnswer(resp *http.Response, contentType string, text []byte) *http.Response {
	return &http.Response{Status: "200 OK", StatusCode: http.StatusOK, Proto: resp.Proto, ProtoMajor: resp.ProtoMajor, ProtoMinor: resp.ProtoMinor,
		Header:  http.Header{"Content-Type": {contentType}, "Replay-Nonce": resp.Header.Values("Replay-Nonce")},
		Request: resp.Request, Body: io.NopCloser(bytes.NewReader(text)), ContentLength: int64(len(text))}
}

// followCertificate retries the download of a certificate that the CA does not return yet.
func (t *responseTap) followCertificate(resp *http.Response) (*http.Response, error) {
	interval := pollIntervalMin
	for range downloadAttempts - 1 {
		if err := timeout.Sleep(t.ctx, interval); err != nil {
			return nil, err
		}
		interval *= 2
		chain, err := t.account.FetchCert(t.ctx, resp.Request.URL.String(), true)
		if err != nil {
			continue
		}
		var text []byte
		for _, der := range chain {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		resp.Body.Close()
		return newAnswer(resp, "application/pem-certificate-chain", text), nil
	}
	return resp, nil
}
