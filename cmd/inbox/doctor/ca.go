package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"inbox/tlsmgr"
)

const (
	// caPatience is for a CA's directory, the handshake included.
	caPatience = 10 * time.Second
	// maxDirectory is far more than any directory has.
	maxDirectory = 1 << 20
	// profileForAddresses is the only one under which Let's Encrypt has
	// certificates for IP addresses.
	profileForAddresses = "shortlived"
)

// directory is what an ACME server says of itself (RFC 8555, 7.1.1).
type directory struct {
	NewNonce   string `json:"newNonce"`
	NewAccount string `json:"newAccount"`
	NewOrder   string `json:"newOrder"`
	Meta       struct {
		TermsOfService          string            `json:"termsOfService"`
		CAAIdentities           []string          `json:"caaIdentities"`
		ExternalAccountRequired bool              `json:"externalAccountRequired"`
		Profiles                map[string]string `json:"profiles"`
	} `json:"meta"`
}

// authority is a CA, as it answered.
type authority struct {
	url     string
	roots   *x509.CertPool
	account bool // whether credentials of an account there were given
	directory
	err   error
	ahead time.Duration // by how much its clock is ahead of ours
	timed bool          // whether that is known
}

// caURLs are the CAs that may be asked for certificates, best first.
func (e *examination) caURLs() []string {
	first := e.CAURL
	if first == "" {
		if first = tlsmgr.LetsEncrypt; e.Staging {
			first = tlsmgr.LetsEncryptStaging
		}
	}
	if e.SecondCAURL == "" {
		return []string{first}
	}
	return []string{first, e.SecondCAURL}
}

// askAuthorities fetches the directories of the CAs, all at once.
func (e *examination) askAuthorities(ctx context.Context) []authority {
	ctx, cancel := context.WithTimeout(ctx, caPatience)
	defer cancel()
	found := []authority{{roots: e.Roots, account: e.ExternalAccount}, {roots: e.SecondRoots, account: e.SecondAccount}}
	urls := e.caURLs()
	found = found[:len(urls)]
	var all sync.WaitGroup
	for i := range found {
		found[i].url = urls[i]
		all.Go(func() { found[i].err = e.ask(ctx, &found[i]) })
	}
	all.Wait()
	return found
}

// ask fetches one directory.
func (e *examination) ask(ctx context.Context, a *authority) error {
	transport := &http.Transport{
		Proxy: e.proxy, DialContext: e.dial, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{RootCAs: a.roots},
	}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url, nil)
	if err != nil {
		return err
	}
	sent := e.now()
	answer, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	a.compareClocks(answer.Header.Get("Date"), sent, e.now())
	return a.read(answer)
}

// read takes the directory from an answer.
func (a *authority) read(answer *http.Response) error {
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers with status %s", answer.Status)
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxDirectory)).Decode(&a.directory); err != nil {
		return fmt.Errorf("its answer is no ACME directory: %w", err)
	}
	if a.NewNonce == "" || a.NewAccount == "" || a.NewOrder == "" {
		return errors.New("its answer is no ACME directory: newNonce, newAccount or newOrder is missing")
	}
	return nil
}

// compareClocks takes the middle of the request for the moment of the answer,
// and of the second that the Date field names.
func (a *authority) compareClocks(date string, sent, received time.Time) {
	t, err := http.ParseTime(date)
	if err != nil {
		return
	}
	a.timed = true
	a.ahead = t.Add(time.Second / 2).Sub(sent.Add(received.Sub(sent) / 2))
}

// checkAuthorities says which CA can be used.
func (e *examination) checkAuthorities(context.Context) []Finding {
	var found [][]Finding
	for _, a := range e.authorities {
		if a.err != nil {
			found = append(found, []Finding{failure(a.url, fmt.Sprintf("The CA cannot be used: %v.", a.err), mendCA(a.err))})
			continue
		}
		found = append(found, append([]Finding{good(a.url, "The CA answers.")}, e.checkOffers(a)...))
	}
	return oneIsEnough(found)
}

// oneIsEnough takes what was found about each CA. When nothing stands between
// one of them and a certificate, what is wrong with the others is a warning.
func oneIsEnough(groups [][]Finding) []Finding {
	usable := func(some []Finding) bool { return tally(some, Failed) == 0 }
	enough := slices.ContainsFunc(groups, usable)
	found := slices.Concat(groups...)
	for i := range found {
		if enough && found[i].Level == Failed {
			found[i].Level = Warned
		}
	}
	return found
}

// mendCA explains what stands between this machine and a CA.
func mendCA(err error) string {
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
		return fmt.Sprintf("It did not answer within %d seconds: see whether a firewall lets this machine reach it.", int(caPatience.Seconds()))
	}
	return "See whether -acme-ca is the URL of an ACME directory, and whether this machine reaches it."
}

// checkOffers looks for what the options need and the CA does not have.
func (e *examination) checkOffers(a authority) []Finding {
	var found []Finding
	if a.Meta.ExternalAccountRequired && !a.account {
		found = append(found, failure(a.url, "The CA wants credentials of an account there (external account binding), and none are given.",
			"Get a key ID and a MAC key from the CA; give the one with -acme-eab-kid, and put the other into a file for -acme-eab-key."))
	}
	_, has := a.Meta.Profiles[e.Profile]
	switch {
	case e.Profile != "" && !has:
		found = append(found, failure(a.url, fmt.Sprintf("The CA has no profile %q; it has %s.", e.Profile, profileNames(a)),
			"Choose one of its profiles with -acme-profile, or leave the option out."))
	case e.Profile == "" && slices.ContainsFunc(e.Domains, isAddress):
		found = append(found, checkAddressProfile(a))
	}
	return found
}

// checkAddressProfile is for a CA that is to give a certificate for an IP address.
func checkAddressProfile(a authority) Finding {
	_, has := a.Meta.Profiles[profileForAddresses]
	switch {
	case has:
		return good(a.url, fmt.Sprintf("Certificates for IP addresses are ordered with its profile %q.", profileForAddresses))
	case len(a.Meta.Profiles) == 0:
		return good(a.url, "It has no profiles; certificates for IP addresses are ordered without one.")
	}
	const text = "It has no profile %q, under which CAs have certificates for IP addresses; it has %s."
	return warning(a.url, fmt.Sprintf(text, profileForAddresses, profileNames(a)),
		"See in its documentation whether one of them is for IP addresses, and choose it with -acme-profile.")
}

func isAddress(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

func profileNames(a authority) string {
	if len(a.Meta.Profiles) == 0 {
		return "none"
	}
	text := ""
	for _, name := range slices.Sorted(maps.Keys(a.Meta.Profiles)) {
		text += fmt.Sprintf(", %q", name)
	}
	return text[len(", "):]
}
