package tlsmgr

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// observer stands between autocert and the authority. autocert says neither why
// a validation failed nor how long it was asked to wait, and cannot be
// cancelled: the observer reads along, and ends each request with its context.
type observer struct {
	ctx  context.Context
	next http.RoundTripper

	mu   sync.Mutex
	said []string // why validations failed
	wait time.Duration
	gave bool // a certificate, which counts at the authority whatever is in it
}

func (o *observer) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := o.ctx.Err(); err != nil {
		return nil, err
	}
	answer, err := o.next.RoundTrip(r.WithContext(o.ctx))
	if err != nil {
		return nil, err
	}
	o.note(answer)
	return answer, nil
}

func (o *observer) note(answer *http.Response) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wait = 0
	if answer.StatusCode >= http.StatusBadRequest {
		o.wait = retryAfter(answer.Header, time.Now())
		return
	}
	if answer.Header.Get("Content-Type") == "application/pem-certificate-chain" {
		o.gave = true
	}
	if answer.Header.Get("Content-Type") != "application/json" && answer.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		return
	}
	body, err := io.ReadAll(answer.Body) // bounded by its client
	answer.Body = readCloser{io.MultiReader(bytes.NewReader(body), answer.Body), answer.Body}
	if err == nil {
		o.readLocked(body)
	}
}

type readCloser struct {
	io.Reader
	io.Closer
}

// readLocked takes the errors of the challenges out of an authorization.
func (o *observer) readLocked(body []byte) {
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
		if text := c.Type + ": " + c.Error.Detail; !slices.Contains(o.said, text) {
			o.said = append(o.said, text)
		}
	}
}

// issued reports whether the authority gave a certificate.
func (o *observer) issued() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.gave
}

func (o *observer) result() (said []string, wait time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.said), o.wait
}
