package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"inbox/tlsmgr/acme"
)

// caTimeout bounds the request for a CA's directory, handshake included.
const caTimeout = 10 * time.Second

// errCAOptions is wrapped by the error about a CA that the server would not start with.
var errCAOptions = errors.New("the options are invalid")

// configuredCAs returns the configured CAs in order of preference.
func (e *examination) configuredCAs() []acmeCA {
	cas := []acmeCA{{CA: e.CA}, {CA: e.FallbackCA}}
	if e.CA.URL == "" {
		if cas[0].URL = acme.LetsEncrypt; e.Staging {
			cas[0].URL = acme.LetsEncryptStaging
		}
	}
	if e.FallbackCA.URL == "" {
		cas = cas[:1]
	}
	for i := range cas {
		client, err := acme.NewCAClient(cas[i].CA)
		if err != nil {
			cas[i].err = fmt.Errorf("%w: %w", errCAOptions, err)
			continue
		}
		cas[i].roots = client.Roots
	}
	return cas
}

// caURLs returns the directory URLs of the CAs in order of preference.
func (e *examination) caURLs() (urls []string) {
	for _, ca := range e.cas {
		urls = append(urls, ca.URL)
	}
	return urls
}

// fetchDirectories fetches the directories of the CAs concurrently.
func (e *examination) fetchDirectories(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, caTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for i := range e.cas {
		if ca := &e.cas[i]; ca.err == nil {
			wg.Go(func() { ca.err = e.fetchDirectory(ctx, ca) })
		}
	}
	wg.Wait()
}

func (e *examination) fetchDirectory(ctx context.Context, ca *acmeCA) error {
	transport := &http.Transport{
		Proxy: e.proxy, DialContext: e.dial, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{RootCAs: ca.roots},
	}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, ca.URL, nil)
	if err != nil {
		return err
	}
	sent := e.now()
	resp, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	ca.compareClocks(resp.Header.Get("Date"), sent, e.now())
	directory, err := acme.ReadDirectory(resp)
	if err == nil {
		ca.Directory = *directory
	}
	return err
}

// compareClocks assumes that the response was made in the middle of the request,
// and in the middle of the second that the Date field names.
func (ca *acmeCA) compareClocks(date string, sent, received time.Time) {
	t, err := http.ParseTime(date)
	if err != nil {
		return
	}
	ca.clockKnown = true
	ca.clockAhead = t.Add(time.Second / 2).Sub(sent.Add(received.Sub(sent) / 2))
}

// checkCAs reports which CAs can be used.
func (e *examination) checkCAs(context.Context) []Finding {
	var found [][]Finding
	for i, ca := range e.cas {
		isFallback := i > 0
		if ca.err != nil {
			found = append(found, []Finding{failure(ca.URL, fmt.Sprintf("The CA is unusable: %v.", ca.err), fixForCA(ca.err))})
		} else {
			found = append(found, append([]Finding{good(ca.URL, "The CA is reachable.")}, e.checkRequirements(ca, isFallback)...))
		}
		for j := range found[i] {
			if isFallback {
				found[i][j].Fix = fallbackOptions.Replace(found[i][j].Fix)
			}
		}
	}
	return downgradeIfAnyUsable(found)
}

// fallbackOptions replaces the options of the first CA by those of the fallback CA.
var fallbackOptions = strings.NewReplacer("-acme-ca", "-acme-fallback-ca", "-acme-root", "-acme-fallback-root",
	"-acme-eab-", "-acme-fallback-eab-")

// downgradeIfAnyUsable joins the findings of each CA. If one CA has no failures,
// the failures of the others become warnings.
func downgradeIfAnyUsable(groups [][]Finding) []Finding {
	usable := func(some []Finding) bool { return tally(some, Failure) == 0 }
	anyUsable := slices.ContainsFunc(groups, usable)
	found := slices.Concat(groups...)
	for i := range found {
		if anyUsable && found[i].Level == Failure {
			found[i].Level = Warning
		}
	}
	return found
}

// fixForCA returns what to do about an error from a CA.
func fixForCA(err error) string {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, errCAOptions):
		return "Correct -acme-ca, -acme-root, -acme-eab-kid or -acme-eab-key."
	case errors.As(err, &unknown):
		return "This machine does not trust the server certificate of the CA. For a private CA give its root certificate with -acme-root FILE. " +
			"For a public CA install the package ca-certificates, and check whether a proxy intercepts TLS."
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "The server certificate of the CA is not valid now: check the clock of this machine."
	case errors.As(err, &host):
		return "The server certificate of the CA is for another name: correct the host in -acme-ca."
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "The port does not serve HTTPS: correct -acme-ca."
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("The CA did not respond within %d seconds: check whether a firewall blocks outgoing connections.", int(caTimeout.Seconds()))
	}
	return "Check that -acme-ca is the URL of an ACME directory, and that this machine can reach it."
}

// checkRequirements compares what the CA requires and offers with the options. A
// fallback CA without the profile of -acme-profile gets orders without one.
func (e *examination) checkRequirements(ca acmeCA, isFallback bool) []Finding {
	var found []Finding
	if ca.Meta.ExternalAccountRequired && ca.EABKeyID == "" {
		found = append(found, failure(ca.URL, "The CA requires external account binding, and no credentials are given.",
			"Get a key ID and a MAC key from the CA. Set -acme-eab-kid to the key ID, and -acme-eab-key to a file with the MAC key."))
	}
	_, has := ca.Meta.Profiles[e.Profile]
	switch {
	case e.Profile != "" && !has && !isFallback:
		found = append(found, failure(ca.URL, fmt.Sprintf("The CA has no profile %q. Available: %s.", e.Profile, profileNames(ca)),
			"Set -acme-profile to one of these, or omit it."))
	case e.Profile == "" && slices.ContainsFunc(e.Domains, isAddress):
		found = append(found, checkIPProfile(ca))
	}
	return found
}

// checkIPProfile checks that a CA has a profile for IP addresses.
func checkIPProfile(ca acmeCA) Finding {
	_, has := ca.Meta.Profiles[acme.ShortLivedProfile]
	switch {
	case has:
		return good(ca.URL, fmt.Sprintf("Certificates for IP addresses are ordered with the profile %q.", acme.ShortLivedProfile))
	case len(ca.Meta.Profiles) == 0:
		return good(ca.URL, "The CA has no profiles. Certificates for IP addresses are ordered without one.")
	}
	const text = "The CA has no profile %q, the usual one for IP addresses. Available: %s."
	return warning(ca.URL, fmt.Sprintf(text, acme.ShortLivedProfile, profileNames(ca)),
		"Look up in the CA's documentation which profile allows IP addresses, and set -acme-profile.")
}

func isAddress(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

func profileNames(ca acmeCA) string {
	if len(ca.Meta.Profiles) == 0 {
		return "none"
	}
	text := ""
	for _, name := range slices.Sorted(maps.Keys(ca.Meta.Profiles)) {
		text += fmt.Sprintf(", %q", name)
	}
	return text[len(", "):]
}
