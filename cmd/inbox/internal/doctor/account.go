package doctor

import (
	"cmp"
	"context"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"time"
)

// dryRunTimeout is for a whole dry order, at a CA that leaves both challenges open for three minutes.
const dryRunTimeout = 7 * time.Minute

// checkAccount looks at what the CA wants of a person: agreement and a mail address.
func (e *examination) checkAccount(context.Context) []Finding {
	if e.Email == "" && !e.TermsAgreed {
		return []Finding{failure("", "Nobody has agreed to the terms of the CA"+e.terms()+".",
			"Read them, then give -email with an address for its warnings, or -acme-agree.")}
	}
	if e.Email == "" {
		return []Finding{good("", "The terms of the CA are agreed to; without -email it cannot warn you.")}
	}
	return []Finding{checkEmail(e.Email, e.letsEncrypt())}
}

// terms is where the terms are to be read, if a CA says so.
func (e *examination) terms() string {
	for _, ca := range e.cas {
		if ca.Meta.TermsOfService != "" {
			return " (" + ca.Meta.TermsOfService + ")"
		}
	}
	return ""
}

// checkEmail does not repeat the address: reports are pasted in public places.
func checkEmail(email string, letsEncrypt bool) Finding {
	parsed, err := mail.ParseAddress(email)
	_, domain, _ := strings.Cut(email, "@")
	domain = strings.ToLower(domain)
	switch {
	case err != nil || parsed.Address != email:
		return failure("-email", "This is no e-mail address.", "Write it plainly, like me@my-domain.net.")
	case !strings.Contains(domain, "."):
		return failure("-email", "The domain of the address has no dot, so no CA accepts it.", "Give an address that the internet can write to.")
	case letsEncrypt && isReservedDomain(domain):
		return failure("-email", "The address is that of an example, which Let's Encrypt refuses.", "Give an address of your own.")
	}
	return good("-email", "The terms of the CA are agreed to, and it has an address for its warnings.")
}

// isReservedDomain is whether nobody can have a mailbox in the domain (RFC 2606).
func isReservedDomain(domain string) bool {
	reserved := []string{"example.com", "example.net", "example.org", "example", "test", "invalid", "localhost"}
	return slices.ContainsFunc(reserved, func(r string) bool { return domain == r || strings.HasSuffix(domain, "."+r) })
}

// checkCertificates tells which certificates of the authority are there already.
func (e *examination) checkCertificates(context.Context) (found []Finding) {
	for _, s := range e.States() {
		switch {
		case s.Source != "acme":
			found = append(found, good(s.Name, "There is no certificate of the CA yet; the server orders it."))
		case !e.now().Before(s.NotAfter):
			found = append(found, warning(s.Name, fmt.Sprintf("Its certificate ended at %s.", s.NotAfter.Format(time.DateTime)),
				"See why it was not renewed; the last order is told below."))
		default:
			found = append(found, good(s.Name, fmt.Sprintf("It has a certificate of %s until %s.", cmp.Or(s.Issuer, "the CA"), s.NotAfter.Format(time.DateTime))))
		}
	}
	if found == nil {
		return []Finding{good("", "Nothing is stored.")}
	}
	return found
}

// checkLastOrders repeats what went wrong with the last orders.
func (e *examination) checkLastOrders(context.Context) []Finding {
	var found []Finding
	for _, s := range e.States() {
		if s.LastError == nil {
			continue
		}
		text := fmt.Sprintf("No order was made: %v", s.LastError) // the authority was not even reached
		if !s.LastAttempt.IsZero() {
			text = fmt.Sprintf("The attempt of %s failed: %v", s.LastAttempt.Format(time.DateTime), s.LastError)
		}
		fix := "Mend what the CA says."
		if !s.NextAttempt.IsZero() {
			fix += fmt.Sprintf(" The server tries again by itself at %s, or soon after a SIGHUP.", s.NextAttempt.Format(time.DateTime))
		}
		found = append(found, warning(s.Name, text, fix))
	}
	if found == nil {
		return []Finding{good("", "No failed order is on record.")}
	}
	return found
}

// checkDryRun makes a dry order.
func (e *examination) checkDryRun(ctx context.Context) []Finding {
	if e.DryRun == nil || len(e.Domains) == 0 {
		return []Finding{failure("", "Without -domain there is nothing to order.", "Give -domain, or leave -renew-test out.")}
	}
	ctx, cancel := context.WithTimeout(ctx, dryRunTimeout)
	defer cancel()
	if err := e.DryRun(ctx); err != nil {
		return []Finding{failure("", fmt.Sprintf("The dry order failed: %v.", err),
			"Mend the failures and warnings above first; then see whether the CA reaches this machine on port 80 or 443.")}
	}
	return []Finding{good("", "A dry order succeeded: the CA reaches this machine, and gives certificates for all names.")}
}
