package tlsmgr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// maxRetryAfter bounds the patience that an authority can ask for.
const maxRetryAfter = 24 * time.Hour

// maxAnswer is far more than any answer of an authority takes.
const maxAnswer = 1 << 20

var errLongAnswer = errors.New("the authority's answer does not end; what answers there is probably none")

// boundedAnswers ends answers that go on for ever: libraries read them whole.
type boundedAnswers struct{ next http.RoundTripper }

func (b boundedAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.next.RoundTrip(r)
	if err == nil {
		answer.Body = &boundedBody{answer.Body, maxAnswer}
	}
	return answer, err
}

type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLongAnswer
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// newClient asks an authority. Each answer, and the time for it, are bounded.
func newClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout: answerTime,
		Transport: boundedAnswers{&http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: answerTime}).DialContext,
			TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   answerTime,
			ResponseHeaderTimeout: answerTime,
			ForceAttemptHTTP2:     true,
			IdleConnTimeout:       time.Minute,
		}},
	}
}

// directory is the part of an authority's directory that we read ourselves.
type directory struct {
	NewOrder string `json:"newOrder"`
	Meta     struct {
		Profiles map[string]string `json:"profiles"`
	} `json:"meta"`
}

// directory is fetched for each order: it says whether the authority can be
// asked at all now.
func (ca *authority) directory(ctx context.Context) (*directory, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, ca.url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := ca.client.Do(r)
	if err != nil {
		return nil, &orderError{err: err}
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		err := fmt.Errorf("%s answers %s", ca.url, answer.Status)
		return nil, &orderError{retryAfter: retryAfter(answer.Header, time.Now()), err: err}
	}
	d := new(directory)
	err = json.NewDecoder(answer.Body).Decode(d)
	if err == nil && d.NewOrder == "" {
		err = errors.New("it takes no orders")
	}
	if err != nil {
		return nil, &orderError{err: fmt.Errorf("%s is no directory of an authority: %w", ca.url, err)}
	}
	return d, nil
}

// retryAfter reads the field of that name, in seconds or as a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	field := h.Get("Retry-After")
	var wait time.Duration
	if seconds, err := strconv.Atoi(field); err == nil {
		wait = time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(field); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}
