package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/mail"
	"slices"
	"strings"
	"time"

	"inbox/tlsmgr/acme"
)

// dryRunTimeout bounds a dry run of an order at a CA that keeps both challenges
// pending for three minutes.
const dryRunTimeout = 7 * time.Minute

// checkAccount checks the agreement to the CA's terms and the e-mail address.
func (e *examination) checkAccount(ctx context.Context) []Finding {
	return append(e.checkAgreement(), e.checkAccounts(ctx)...)
}

// accountTimeout bounds the question to the CAs.
const accountTimeout = 20 * time.Second

// checkAccounts reports what the CAs say about the stored accounts.
func (e *examination) checkAccounts(ctx context.Context) (found []Finding) {
	if e.Accounts == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, accountTimeout)
	defer cancel()
	for _, a := range e.Accounts(ctx) {
		name := cmp.Or(a.URL, a.CA)
		switch {
		case errors.Is(a.Err, fs.ErrNotExist): // the first order registers one
		case a.Err != nil:
			found = append(found, warning(a.CA, fmt.Sprintf("The CA could not be asked about the account: %v.", a.Err), "Fix the findings about the CA first."))
		case a.Status == acme.AccountValid:
			found = append(found, good(name, "The account is valid at the CA."))
		case a.Status == acme.AccountRevoked:
			found = append(found, failure(name, "The CA has revoked the account.", "Ask the CA why, or set another -email, which registers another account."))
		default:
			found = append(found, warning(name, fmt.Sprintf("The account is %s.", a.Status),
				"None: the next order registers another account. With -acme-eab-kid, make sure that the key can be used again."))
		}
	}
	return found
}

func (e *examination) checkAgreement() []Finding {
	if e.Email == "" && !e.TermsAgreed {
		return []Finding{failure("", "The CA's terms of service"+e.terms()+" have not been agreed to.",
			"Read the terms, then set -email, which also receives the CA's warnings, or -acme-agree.")}
	}
	if e.Email == "" {
		return []Finding{good("", "The CA's terms are agreed to. Without -email the CA cannot send warnings.")}
	}
	return []Finding{checkEmail(e.Email, e.letsEncrypt())}
}

// terms returns the URL of the terms in parentheses, or "".
func (e *examination) terms() string {
	for _, ca := range e.cas {
		if ca.Meta.TermsOfService != "" {
			return " (" + ca.Meta.TermsOfService + ")"
		}
	}
	return ""
}

// checkEmail does not print the address: reports get posted in public.
func checkEmail(email string, letsEncrypt bool) Finding {
	parsed, err := mail.ParseAddress(email)
	_, domain, _ := strings.Cut(email, "@")
	domain = strings.ToLower(domain)
	switch {
	case err != nil || parsed.Address != email:
		return failure("-email", "Not a valid e-mail address.", "Give the plain address, like me@my-domain.net.")
	case !strings.Contains(domain, "."):
		return failure("-email", "The domain of the address has no dot, so CAs reject it.", "Give an address that receives mail from the internet.")
	case letsEncrypt && isReservedDomain(domain):
		return failure("-email", "The address is in a domain reserved for examples, which Let's Encrypt rejects.", "Give an address of your own.")
	}
	return good("-email", "The CA's terms are agreed to, and the CA can send warnings.")
}

// isReservedDomain reports whether a domain is reserved (RFC 2606) and so has no
// mailboxes.
func isReservedDomain(domain string) bool {
	reserved := []string{"example.com", "example.net", "example.org", "example", "test", "invalid", "localhost"}
	return slices.ContainsFunc(reserved, func(r string) bool { return domain == r || strings.HasSuffix(domain, "."+r) })
}

// checkCertificates reports the certificates obtained from the CA so far.
func (e *examination) checkCertificates(context.Context) (found []Finding) {
	for _, s := range e.States() {
		switch {
		case s.Source != "acme":
			found = append(found, good(s.Name, "No certificate from the CA yet. The server will order one."))
		case !e.now().Before(s.NotAfter):
			found = append(found, warning(s.Name, fmt.Sprintf("The certificate expired at %s.", s.NotAfter.Format(time.DateTime)),
				"Find out why it was not renewed: see the last order below."))
		default:
			found = append(found, good(s.Name, fmt.Sprintf("Has a certificate from %s, valid until %s.", cmp.Or(s.Issuer, "the CA"), s.NotAfter.Format(time.DateTime))))
		}
	}
	if found == nil {
		return []Finding{good("", "No certificates stored.")}
	}
	return found
}

// checkLastOrders reports the errors of the last orders.
func (e *examination) checkLastOrders(context.Context) []Finding {
	var found []Finding
	for _, s := range e.States() {
		if s.LastError == nil {
			continue
		}
		text := fmt.Sprintf("No order was placed: %v", s.LastError) // the CA was not reached
		if !s.LastAttempt.IsZero() {
			text = fmt.Sprintf("The order at %s failed: %v", s.LastAttempt.Format(time.DateTime), s.LastError)
		}
		fix := "Fix the problem reported by the CA."
		if errors.Is(s.LastError, fs.ErrPermission) {
			fix = runAsServer
		}
		if !s.NextAttempt.IsZero() {
			fix += fmt.Sprintf(" The server retries at %s, or soon after a SIGHUP.", s.NextAttempt.Format(time.DateTime))
		}
		found = append(found, warning(s.Name, text, fix))
	}
	if found == nil {
		return []Finding{good("", "No failed orders.")}
	}
	return found
}

// checkDryRun runs a test order.
func (e *examination) checkDryRun(ctx context.Context) []Finding {
	if e.DryRun == nil || len(e.Domains) == 0 {
		return []Finding{failure("", "Without -domain there is no certificate to order.", "Set -domain, or omit -renew-test.")}
	}
	ctx, cancel := context.WithTimeout(ctx, dryRunTimeout)
	defer cancel()
	if err := e.DryRun(ctx); err != nil {
		return []Finding{failure("", fmt.Sprintf("The test order failed: %v.", err),
			"Fix the failures and warnings above first, then make sure that the CA can reach this machine on port 80 or 443.")}
	}
	return []Finding{good("", "The test order succeeded: the CA reaches this machine and issues certificates for all names.")}
}
