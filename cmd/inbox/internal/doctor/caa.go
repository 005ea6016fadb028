package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// checkCAA checks whether the CAA records of the names permit the CAs (RFC 8659).
// One permitted CA is enough.
func (e *examination) checkCAA(ctx context.Context) []Finding {
	return forEach(e.Domains, func(name string) []Finding {
		if isAddress(name) {
			return nil // addresses have no CAA records
		}
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		domain, records, err := findCAA(ctx, e.resolver, name)
		switch {
		case err != nil:
			return []Finding{warning(name, fmt.Sprintf("The CAA records could not be looked up: %v.", err),
				"CAs refuse to issue until the lookup succeeds. If the DNS servers of the domain are at fault, have them fixed.")}
		case len(records) == 0:
			return []Finding{good(name, "No CAA record, so any CA is permitted.")}
		}
		var found [][]Finding
		for _, ca := range e.cas {
			found = append(found, []Finding{evaluateCAA(name, domain, records, ca)})
		}
		return downgradeIfAnyUsable(found)
	})
}

// findCAA looks up the CAA records of the name, then of its parents, and returns
// those of the first domain that has any.
func findCAA(ctx context.Context, r resolver, name string) (domain string, records []caaRecord, err error) {
	domain = strings.TrimSuffix(strings.TrimPrefix(name, "*."), ".")
	for {
		records, err = r.LookupCAA(ctx, domain)
		_, parent, hasParent := strings.Cut(domain, ".")
		if err != nil || len(records) > 0 || !hasParent {
			return domain, records, err
		}
		domain = parent
	}
}

// evaluateCAA checks the relevant records of a name for one CA.
func evaluateCAA(name, domain string, records []caaRecord, ca acmeCA) Finding {
	if tag := unknownCritical(records); tag != "" {
		return failure(name, fmt.Sprintf("A critical CAA record of %s has the unknown tag %q, so CAs refuse to issue.", domain, tag),
			"Correct or remove the record.")
	}
	issuers := issuersIn(records, strings.HasPrefix(name, "*."))
	identities := ca.caaIdentities()
	switch {
	case issuers == nil:
		return good(name, fmt.Sprintf("The CAA records of %s do not restrict CAs.", domain))
	case len(identities) == 0:
		return warning(name, fmt.Sprintf("%s has CAA records, but %s does not publish its CAA domain name.", domain, ca.URL),
			"Look up the name in the CA's documentation, and check that the records contain it.")
	}
	return evaluateIssuers(name, domain, issuers, identities)
}

func evaluateIssuers(name, domain string, issuers []issuer, identities []string) Finding {
	permitted := slices.DeleteFunc(slices.Clone(issuers), func(i issuer) bool { return !slices.Contains(identities, i.domain) })
	fix := fmt.Sprintf("Add this record to %s: CAA 0 %s %q.", domain, issuers[0].tag, identities[0])
	if len(permitted) == 0 {
		return failure(name, fmt.Sprintf("The CAA records of %s do not permit %s.", domain, strings.Join(identities, ", ")), fix)
	}
	usable := slices.DeleteFunc(slices.Clone(permitted), func(i issuer) bool { return !i.allowsOurChallenges() })
	if len(usable) == 0 {
		const text = "The CAA records of %s permit %s only for challenge types (validationmethods) other than http-01 and tls-alpn-01."
		return failure(name, fmt.Sprintf(text, domain, permitted[0].domain), fix)
	}
	text := fmt.Sprintf("The CAA records of %s permit %s.", domain, usable[0].domain)
	if !slices.ContainsFunc(usable, func(i issuer) bool { return i.parameters["accounturi"] == "" }) {
		text += " They require an account (accounturi); this check does not compare it."
	}
	return good(name, text)
}

// caaIdentities returns the names that identify the CA in CAA records.
func (ca acmeCA) caaIdentities() []string {
	var found []string
	for _, id := range ca.Meta.CAAIdentities {
		found = append(found, strings.ToLower(id))
	}
	if len(found) == 0 && isLetsEncrypt(ca.URL) {
		return []string{"letsencrypt.org"}
	}
	return found
}

// unknownCritical returns the tag of a critical record that CAs must not ignore,
// or "".
func unknownCritical(records []caaRecord) string {
	// From RFC 8659, RFC 8657, RFC 9495 and the CA/Browser Forum's requirements.
	known := []string{"issue", "issuewild", "iodef", "issuemail", "contactemail", "contactphone", "issuevmc"}
	for _, r := range records {
		if r.Critical && !slices.Contains(known, strings.ToLower(r.Tag)) {
			return r.Tag
		}
	}
	return ""
}

// issuer is the CA that a record permits. An empty domain permits none.
type issuer struct {
	tag, domain string
	parameters  map[string]string
}

// issuersIn returns the issuers that apply, nil if the records do not restrict
// CAs. For a wildcard, issuewild records take precedence.
func issuersIn(records []caaRecord, wildcard bool) []issuer {
	var issue, wild []issuer
	for _, r := range records {
		switch strings.ToLower(r.Tag) {
		case "issue":
			issue = append(issue, parseIssuer("issue", r.Value))
		case "issuewild":
			wild = append(wild, parseIssuer("issuewild", r.Value))
		}
	}
	if wildcard && wild != nil {
		return wild
	}
	return issue
}

// parseIssuer parses a value like "ca.example; name=value; name=value".
func parseIssuer(tag, value string) issuer {
	parts := strings.Split(value, ";")
	i := issuer{tag, strings.ToLower(strings.TrimSpace(parts[0])), map[string]string{}}
	for _, part := range parts[1:] {
		name, value, _ := strings.Cut(part, "=")
		i.parameters[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
	}
	return i
}

// allowsOurChallenges reports whether the record permits http-01 or tls-alpn-01
// (RFC 8657).
func (i issuer) allowsOurChallenges() bool {
	methods, limited := i.parameters["validationmethods"]
	if !limited {
		return true
	}
	for method := range strings.SplitSeq(methods, ",") {
		if m := strings.TrimSpace(method); m == "http-01" || m == "tls-alpn-01" {
			return true
		}
	}
	return false
}
