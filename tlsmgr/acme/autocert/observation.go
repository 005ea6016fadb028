package autocert

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"time"

	"inbox/tlsmgr/acme"
)

// observation is the information about an order from the responses of the CA.
type observation struct {
	orderURL, finalizeURL, certURL string

	termsURL         string        // of new terms of service, or empty
	finalized        bool          // the CA received the CSR
	issued           bool          // the CA returned a certificate, which counts against its limits even if invalid
	validationErrors []string      // distinct, as "challenge type: detail"
	retryAfter       time.Duration // of the last response if it was an error
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
