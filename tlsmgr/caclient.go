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

// maxRetryAfter caps the Retry-After of a CA.
const maxRetryAfter = 24 * time.Hour

// maxResponseBytes bounds a CA response; valid ones are far smaller.
const maxResponseBytes = 1 << 20

var errResponseTooLong = errors.New("response exceeds 1 MiB; the server is probably not an ACME CA")

// limitedTransport limits response bodies to maxResponseBytes, because the ACME
// libraries read them into memory.
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

// newHTTPClient returns the client for requests to a CA. Responses are bounded in size
// and time.
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

// directory is the part of an ACME directory that this package uses itself.
type directory struct {
	NewOrder string `json:"newOrder"`
	Meta     struct {
		Profiles map[string]string `json:"profiles"`
	} `json:"meta"`
}

// fetchDirectory fetches the directory. Each order starts with it, to check that the
// CA is available.
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
		err := fmt.Errorf("%s returned %s", ca.url, resp.Status)
		return nil, &orderError{retryAfter: parseRetryAfter(resp.Header, time.Now()), err: err}
	}
	d := new(directory)
	err = json.NewDecoder(resp.Body).Decode(d)
	if err == nil && d.NewOrder == "" {
		err = errors.New("no newOrder URL")
	}
	if err != nil {
		return nil, &orderError{err: fmt.Errorf("%s is not an ACME directory: %w", ca.url, err)}
	}
	return d, nil
}

// parseRetryAfter returns the Retry-After header, which is in seconds or an HTTP date,
// as a duration from 0 to maxRetryAfter.
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
