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

// maxResponseBytes is far more than any answer of an authority takes.
const maxResponseBytes = 1 << 20

var errResponseTooLong = errors.New("the authority's answer does not end; what answers there is probably none")

// limitedTransport ends answers that go on for ever: libraries read them whole.
type limitedTransport struct{ next http.RoundTripper }

func (t limitedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	if err == nil {
		resp.Body = &limitedBody{resp.Body, maxResponseBytes}
	}
	return resp, err
}

type limitedBody struct {
	io.ReadCloser
	remaining int
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.remaining <= 0 {
		return 0, errResponseTooLong
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.remaining)])
	b.remaining -= n
	return n, err
}

// newHTTPClient asks an authority. Each answer, and the time for it, are bounded.
func newHTTPClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout: caRequestTimeout,
		Transport: limitedTransport{&http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: caRequestTimeout}).DialContext,
			TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   caRequestTimeout,
			ResponseHeaderTimeout: caRequestTimeout,
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

// fetchDirectory is fetched for each order: it says whether the authority can be
// asked at all now.
func (ca *caClient) fetchDirectory(ctx context.Context) (*directory, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, ca.url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := ca.httpClient.Do(r)
	if err != nil {
		return nil, &orderError{err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		err := fmt.Errorf("%s answers %s", ca.url, resp.Status)
		return nil, &orderError{retryAfter: parseRetryAfter(resp.Header, time.Now()), err: err}
	}
	d := new(directory)
	err = json.NewDecoder(resp.Body).Decode(d)
	if err == nil && d.NewOrder == "" {
		err = errors.New("it takes no orders")
	}
	if err != nil {
		return nil, &orderError{err: fmt.Errorf("%s is no directory of an authority: %w", ca.url, err)}
	}
	return d, nil
}

// parseRetryAfter reads the field of that name, in seconds or as a date.
func parseRetryAfter(h http.Header, now time.Time) time.Duration {
	field := h.Get("Retry-After")
	var wait time.Duration
	if seconds, err := strconv.Atoi(field); err == nil {
		wait = time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(field); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}
