package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// checkCAA finds out whether DNS lets the CAs give certificates for the names
// (RFC 8659). One CA that may is enough.
func (e *examination) checkCAA(ctx context.Context) []Finding {
	return forEach(e.Domains, func(name string) []Finding {
		if isAddress(name) {
			return nil // an address has no CAA records
		}
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		domain, records, err := findCAA(ctx, e.resolver, name)
		switch {
		case err != nil:
			return []Finding{warning(name, fmt.Sprintf("The CAA records could not be looked up: %v.", err),
				"A CA refuses as long as it gets no answer: if the DNS servers of the domain are at fault, have them mended.")}
		case len(records) == 0:
			return []Finding{good(name, "There is no CAA record, so every CA may.")}
		}
		var found [][]Finding
		for _, ca := range e.cas {
			found = append(found, []Finding{evaluateCAA(name, domain, records, ca)})
		}
		return downgradeIfAnyUsable(found)
	})
}

// findCAA looks for CAA records at the name, then at each of its parents: the
// first that has any counts.
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

// evaluateCAA holds the records that count for a name against one CA.
func evaluateCAA(name, domain string, records []caaRecord, ca acmeCA) Finding {
	if tag := unknownCritical(records); tag != "" {
		return failure(name, fmt.Sprintf("A critical CAA record of %s has the tag %q, which CAs do not know.", domain, tag),
			"Correct or remove that record.")
	}
	issuers := issuersIn(records, strings.HasPrefix(name, "*."))
	identities := ca.caaIdentities()
	switch {
	case issuers == nil:
		return good(name, fmt.Sprintf("The CAA records of %s restrict no CA.", domain))
	case len(identities) == 0:
		return warning(name, fmt.Sprintf("%s has CAA records, and %s does not say by which name they would permit it.", domain, ca.url),
			"See in the documentation of the CA which name it looks for, and whether the records have it.")
	}
	return evaluateIssuers(name, domain, issuers, identities)
}

func evaluateIssuers(name, domain string, issuers []issuer, identities []string) Finding {
	permitted := slices.DeleteFunc(slices.Clone(issuers), func(i issuer) bool { return !slices.Contains(identities, i.domain) })
	fix := fmt.Sprintf("Add to %s the record: CAA 0 %s %q.", domain, issuers[0].tag, identities[0])
	if len(permitted) == 0 {
		return failure(name, fmt.Sprintf("The CAA records of %s do not permit %s.", domain, strings.Join(identities, ", ")), fix)
	}
	usable := slices.DeleteFunc(slices.Clone(permitted), func(i issuer) bool { return !i.allowsOurChallenges() })
	if len(usable) == 0 {
		const text = "The CAA records of %s permit %s for other challenges (validationmethods) than http-01 and tls-alpn-01."
		return failure(name, fmt.Sprintf(text, domain, permitted[0].domain), fix)
	}
	text := fmt.Sprintf("The CAA records of %s permit %s.", domain, usable[0].domain)
	if !slices.ContainsFunc(usable, func(i issuer) bool { return i.parameters["accounturi"] == "" }) {
		text += " They name an account there (accounturi); whether it is this one is not checked."
	}
	return good(name, text)
}

// caaIdentities are the names by which CAA records permit the CA.
func (ca acmeCA) caaIdentities() []string {
	var found []string
	for _, id := range ca.Meta.CAAIdentities {
		found = append(found, strings.ToLower(id))
	}
	if len(found) == 0 && isLetsEncrypt(ca.url) {
		return []string{"letsencrypt.org"}
	}
	return found
}

// unknownCritical is the tag of a critical record that a CA must not pass over.
func unknownCritical(records []caaRecord) string {
	// The tags of RFC 8659, 8657, 9495 and the CAs' own rules.
	known := []string{"issue", "issuewild", "iodef", "issuemail", "contactemail", "contactphone", "issuevmc"}
	for _, r := range records {
		if r.Critical && !slices.Contains(known, strings.ToLower(r.Tag)) {
			return r.Tag
		}
	}
	return ""
}

// issuer is a CA that a record permits; none when its domain is empty.
type issuer struct {
	tag, domain string
	parameters  map[string]string
}

// issuersIn are the records that count; nil when none restricts anything. For
// a wildcard those made for wildcards win, if there are any.
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

// parseIssuer reads «ca.example; name=value; name=value».
func parseIssuer(tag, value string) issuer {
	parts := strings.Split(value, ";")
	i := issuer{tag, strings.ToLower(strings.TrimSpace(parts[0])), map[string]string{}}
	for _, part := range parts[1:] {
		name, value, _ := strings.Cut(part, "=")
		i.parameters[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
	}
	return i
}

// allowsOurChallenges is whether one of our challenges is permitted (RFC 8657).
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
