package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"inbox/internal/atomicfile"
	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/hosts"
	"inbox/tlsmgr/storage"
)

const (
	// RequestTimeout bounds one request to a CA.
	RequestTimeout = 10 * time.Second
	// maxResponseBytes is more than any response of a CA has.
	maxResponseBytes = 1 << 20
)

// CA configures a certificate authority that supports ACME.
type CA struct {
	// URL is the URL of the directory.
	URL string
	// RootsFile contains the PEM root certificates to verify the server of the CA with.
	// If empty, the roots of the system are used.
	RootsFile string
	// EABKeyID and EABKeyFile are the key ID and a file with the MAC key in base64url for
	// external account binding (RFC 8555, 7.3.4). Both are empty without it.
	EABKeyID, EABKeyFile string
}

// CAClient is a resolved [CA] with a client for its server.
type CAClient struct {
	URL string
	// StorageKey is the URL as one element of a storage key.
	StorageKey string
	// Roots verify the server of the CA; nil means the roots of the system.
	Roots *x509.CertPool
	// EABKeyID and EABKey are for external account binding; empty without it.
	EABKeyID string
	EABKey   []byte
	// HTTPClient bounds the time and the size of each response.
	HTTPClient *http.Client
}

// NewCAClient reads the files of a CA. The error wraps [ErrUsage] for an invalid URL or
// an incomplete external account binding.
func NewCAClient(option CA) (*CAClient, error) {
	u, err := url.Parse(option.URL)
	if err == nil && u.User != nil { // it would appear in logs and in file names
		return nil, UsageErrorf("the directory URL of %s contains a user name or password; ACME accounts use keys", u.Host)
	}
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || hosts.IsPublic(u.Hostname())) {
		return nil, UsageErrorf("%q is not an ACME directory URL; use the form https://ca.example.org/directory", option.URL)
	}
	if (option.EABKeyID == "") != (option.EABKeyFile == "") {
		return nil, UsageErrorf("external account binding requires a key ID and a key file; give both")
	}
	path := strings.ReplaceAll(strings.Trim(u.Path, "/"), "/", "-")
	ca := &CAClient{URL: option.URL, EABKeyID: option.EABKeyID, StorageKey: storage.Element(strings.Trim(u.Host+"-"+path, "-"))}
	if ca.Roots, err = readRoots(option.RootsFile); err != nil {
		return nil, err
	}
	if ca.EABKey, err = readEABKey(option.EABKeyFile); err != nil {
		return nil, err
	}
	ca.HTTPClient = newHTTPClient(ca.Roots)
	return ca, nil
}

func readRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := atomicfile.Read(path, certs.MaxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("read CA root certificates: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read CA root certificates: %s contains no PEM certificate", path)
	}
	return roots, nil
}

func readEABKey(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	text, err := atomicfile.Read(path, certs.MaxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("read EAB key: %w", err)
	}
	key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(string(text)), "="))
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("read EAB key: %s does not contain a base64url MAC key", path)
	}
	return key, nil
}

func newHTTPClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout: RequestTimeout,
		Transport: limitedTransport{&http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: RequestTimeout}).DialContext,
			TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   RequestTimeout,
			ResponseHeaderTimeout: RequestTimeout,
			ForceAttemptHTTP2:     true,
			IdleConnTimeout:       time.Minute,
		}},
	}
}

var errResponseTooLong = errors.New("the response does not end; the server is probably not a CA")

// limitedTransport bounds the size of responses, because libraries read them into memory.
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

// Directory is the part of the directory of a CA (RFC 8555, 7.1.1) that this module uses.
type Directory struct {
	NewNonce   string `json:"newNonce"`
	NewAccount string `json:"newAccount"`
	NewOrder   string `json:"newOrder"`
	// RenewalInfo is empty if the CA does not support ARI (RFC 9773).
	RenewalInfo string `json:"renewalInfo"`
	Meta        struct {
		TermsOfService          string            `json:"termsOfService"`
		Profiles                map[string]string `json:"profiles"`
		ExternalAccountRequired bool              `json:"externalAccountRequired"`
		CAAIdentities           []string          `json:"caaIdentities"`
	} `json:"meta"`
}

// ReadDirectory parses the response to a GET of a directory.
func ReadDirectory(resp *http.Response) (*Directory, error) {
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", resp.Status)
	}
	d := new(Directory)
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxResponseBytes)).Decode(d); err != nil {
		return nil, fmt.Errorf("the response is not an ACME directory: %w", err)
	}
	if d.NewNonce == "" || d.NewAccount == "" || d.NewOrder == "" {
		return nil, errors.New("the response is not an ACME directory: newNonce, newAccount or newOrder is missing")
	}
	return d, nil
}

// fetchDirectory checks before each order that the CA is available; the engines would
// wait for minutes. Nothing was ordered yet, so the outcome of its OrderError is
// schedule.CAUnavailable.
func fetchDirectory(ctx context.Context, ca *CAClient) (*Directory, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, ca.URL, nil)
	if err != nil {
		return nil, err
	}
	resp, err := ca.HTTPClient.Do(r)
	if err != nil {
		return nil, &OrderError{Err: fmt.Errorf("reach the CA: %w", err)}
	}
	defer resp.Body.Close()
	d, err := ReadDirectory(resp)
	if err != nil {
		wait := ParseRetryAfter(resp.Header, time.Now())
		return nil, &OrderError{RetryAfter: wait, Err: fmt.Errorf("reach the CA at %s: %w", ca.URL, err)}
	}
	return d, nil
}

// ParseRetryAfter returns the Retry-After of a response, given in seconds or as a date:
// zero without one, and at most schedule.MaxRetryAfter.
func ParseRetryAfter(h http.Header, now time.Time) time.Duration {
	field := h.Get("Retry-After")
	var wait time.Duration
	if seconds, err := strconv.Atoi(field); err == nil {
		wait = time.Duration(min(seconds, int(schedule.MaxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(field); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), schedule.MaxRetryAfter)
}

var termsLinkPattern = regexp.MustCompile(`^\s*<([^>]*)>\s*;.*\brel="?terms-of-service"?`)

// TermsLink returns the link to new terms of service in the response of a CA (RFC 8555,
// 7.3.3), or "".
func TermsLink(h http.Header) string {
	for _, field := range h.Values("Link") {
		if m := termsLinkPattern.FindStringSubmatch(field); m != nil {
			return SanitizeText(m[1])
		}
	}
	return ""
}
