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
	"sync"
	"time"

	"inbox/tlsmgr/acme"
)

const (
	// caTimeout is for a CA's directory, the handshake included.
	caTimeout = 10 * time.Second
	// ipProfile is the only one under which Let's Encrypt has
	// certificates for IP addresses.
	ipProfile = "shortlived"
)

// acmeCA is a CA, as it answered.
type acmeCA struct {
	url        string
	roots      *x509.CertPool
	hasAccount bool // whether credentials of an account there were given
	acme.Directory
	err        error
	clockAhead time.Duration // by how much its clock is ahead of ours
	clockKnown bool          // whether that is known
}

// caURLs are the CAs that may be asked for certificates, best first.
func (e *examination) caURLs() []string {
	first := e.CAURL
	if first == "" {
		if first = acme.LetsEncrypt; e.Staging {
			first = acme.LetsEncryptStaging
		}
	}
	if e.SecondCAURL == "" {
		return []string{first}
	}
	return []string{first, e.SecondCAURL}
}

// fetchDirectories fetches the directories of the CAs, all at once.
func (e *examination) fetchDirectories(ctx context.Context) []acmeCA {
	ctx, cancel := context.WithTimeout(ctx, caTimeout)
	defer cancel()
	cas := []acmeCA{{roots: e.Roots, hasAccount: e.ExternalAccount}, {roots: e.SecondRoots, hasAccount: e.SecondAccount}}
	urls := e.caURLs()
	cas = cas[:len(urls)]
	var wg sync.WaitGroup
	for i := range cas {
		cas[i].url = urls[i]
		wg.Go(func() { cas[i].err = e.fetchDirectory(ctx, &cas[i]) })
	}
	wg.Wait()
	return cas
}

// fetchDirectory fetches one directory.
func (e *examination) fetchDirectory(ctx context.Context, ca *acmeCA) error {
	transport := &http.Transport{
		Proxy: e.proxy, DialContext: e.dial, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{RootCAs: ca.roots},
	}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, ca.url, nil)
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

// compareClocks takes the middle of the request for the moment of the answer,
// and of the second that the Date field names.
func (ca *acmeCA) compareClocks(date string, sent, received time.Time) {
	t, err := http.ParseTime(date)
	if err != nil {
		return
	}
	ca.clockKnown = true
	ca.clockAhead = t.Add(time.Second / 2).Sub(sent.Add(received.Sub(sent) / 2))
}

// checkCAs says which CA can be used.
func (e *examination) checkCAs(context.Context) []Finding {
	var found [][]Finding
	for _, ca := range e.cas {
		if ca.err != nil {
			found = append(found, []Finding{failure(ca.url, fmt.Sprintf("The CA cannot be used: %v.", ca.err), fixForCA(ca.err))})
			continue
		}
		found = append(found, append([]Finding{good(ca.url, "The CA answers.")}, e.checkRequirements(ca)...))
	}
	return downgradeIfAnyUsable(found)
}

// downgradeIfAnyUsable takes what was found about each CA. When nothing stands between
// one of them and a certificate, what is wrong with the others is a warning.
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

// fixForCA explains what stands between this machine and a CA.
func fixForCA(err error) string {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		return "Its own certificate is signed by nobody that this machine trusts. For a private CA give its root certificate with -acme-root FILE; " +
			"for a public one install the package ca-certificates, and see whether a proxy opens the traffic."
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "Its own certificate is not valid now: see whether the clock of this machine is right."
	case errors.As(err, &host):
		return "Its own certificate is for another name: correct the host in -acme-ca."
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "It does not speak HTTPS at that port: correct -acme-ca."
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("It did not answer within %d seconds: see whether a firewall lets this machine reach it.", int(caTimeout.Seconds()))
	}
	return "See whether -acme-ca is the URL of an ACME directory, and whether this machine reaches it."
}

// checkRequirements looks for what the options need and the CA does not have.
func (e *examination) checkRequirements(ca acmeCA) []Finding {
	var found []Finding
	if ca.Meta.ExternalAccountRequired && !ca.hasAccount {
		found = append(found, failure(ca.url, "The CA wants credentials of an account there (external account binding), and none are given.",
			"Get a key ID and a MAC key from the CA; give the one with -acme-eab-kid, and put the other into a file for -acme-eab-key."))
	}
	_, has := ca.Meta.Profiles[e.Profile]
	switch {
	case e.Profile != "" && !has:
		found = append(found, failure(ca.url, fmt.Sprintf("The CA has no profile %q; it has %s.", e.Profile, profileNames(ca)),
			"Choose one of its profiles with -acme-profile, or leave the option out."))
	case e.Profile == "" && slices.ContainsFunc(e.Domains, isAddress):
		found = append(found, checkIPProfile(ca))
	}
	return found
}

// checkIPProfile is for a CA that is to give a certificate for an IP address.
func checkIPProfile(ca acmeCA) Finding {
	_, has := ca.Meta.Profiles[ipProfile]
	switch {
	case has:
		return good(ca.url, fmt.Sprintf("Certificates for IP addresses are ordered with its profile %q.", ipProfile))
	case len(ca.Meta.Profiles) == 0:
		return good(ca.url, "It has no profiles; certificates for IP addresses are ordered without one.")
	}
	const text = "It has no profile %q, under which CAs have certificates for IP addresses; it has %s."
	return warning(ca.url, fmt.Sprintf(text, ipProfile, profileNames(ca)),
		"See in its documentation whether one of them is for IP addresses, and choose it with -acme-profile.")
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
