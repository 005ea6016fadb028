package autocert

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	acmelib "golang.org/x/crypto/acme"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/timeout"
)

// A finalized order is looked at for pollLimit, at intervals that double from
// pollIntervalMin to pollIntervalMax. Its certificate is asked for downloadAttempts
// times.
const (
	pollLimit                        = 90 * time.Second
	pollIntervalMin, pollIntervalMax = 500 * time.Millisecond, 10 * time.Second
	downloadAttempts                 = 5
)

// followOrder replaces the answer to a finalization that does not tell how it
// ended: autocert takes it for a failure, loses the key, and orders again, although
// the CA issues. A refusal of an order that is still ready stays, so that autocert
// can repeat the request after a server error.
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
	orderURL := t.orderURLs().url
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

// lostAnswer stands for the answer to a request that got none.
func lostAnswer(r *http.Request) *http.Response {
	return &http.Response{Status: "502 no answer", StatusCode: http.StatusBadGateway, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, Request: r}
}

// answerWith returns an answer with the state of the order.
func (t *responseTap) answerWith(resp *http.Response, o *acmelib.Order) (*http.Response, error) {
	t.mu.Lock()
	t.order.certURL = o.CertURL
	t.mu.Unlock()
	object := map[string]any{"status": o.Status, "certificate": o.CertURL, "finalize": o.FinalizeURL, "authorizations": o.AuthzURLs}
	if o.Error != nil {
		object["error"] = map[string]any{"type": o.Error.ProblemType, "detail": o.Error.Detail, "status": o.Error.StatusCode}
	}
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	answer := newAnswer(resp, "application/json", text)
	answer.Header.Set("Location", t.orderURLs().url)
	return answer, nil
}

// newAnswer keeps the nonce of the answer that it replaces.
func newAnswer(resp *http.Response, contentType string, text []byte) *http.Response {
	return &http.Response{Status: "200 OK", StatusCode: http.StatusOK, Proto: resp.Proto, ProtoMajor: resp.ProtoMajor, ProtoMinor: resp.ProtoMinor,
		Header:  http.Header{"Content-Type": {contentType}, "Replay-Nonce": resp.Header.Values("Replay-Nonce")},
		Request: resp.Request, Body: io.NopCloser(bytes.NewReader(text)), ContentLength: int64(len(text))}
}

// followCertificate asks again for a certificate that the CA does not deliver yet.
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

// orderError tells what an error means for the schedule.
func (r *orderRun) orderError(err error) *acme.OrderError {
	e := orderError(err, r.tap)
	r.explainAccount(e, err)
	return e
}

func orderError(err error, tap *responseTap) *acme.OrderError {
	validationErrors, retryAfter := tap.result()
	status, cause := 0, err
	var problem *acmelib.Error
	if errors.As(err, &problem) {
		status, err = problem.StatusCode, problemText(problem)
	}
	if isProblem(cause, "badNonce") {
		status = http.StatusServiceUnavailable
	}
	e := acme.Classify(status, retryAfter, err)
	switch {
	case tap.issued(): // another order soon would use up the weekly limit of the CA
		e.Outcome = schedule.CARejected
		e.Err = fmt.Errorf("the CA issued a certificate that autocert cannot use: %w", err)
	case tap.finalized(): // the CA can issue, or has
		e.Outcome = schedule.CARejected
		e.Err = fmt.Errorf("the name is validated, and the order was finalized, but brought no certificate: %w", err)
	case len(validationErrors) > 0:
		e.Outcome = schedule.ValidationFailed
		e.Err = fmt.Errorf("the CA says: %s", strings.Join(validationErrors, "; "))
	}
	return e
}
