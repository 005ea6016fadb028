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
		ctx, cancel := context.WithTimeout(ctx, lookupPatience)
		defer cancel()
		at, records, err := climb(ctx, e.resolver, name)
		switch {
		case err != nil:
			return []Finding{warning(name, fmt.Sprintf("The CAA records could not be looked up: %v.", err),
				"A CA refuses as long as it gets no answer: if the DNS servers of the domain are at fault, have them mended.")}
		case len(records) == 0:
			return []Finding{good(name, "There is no CAA record, so every CA may.")}
		}
		var found [][]Finding
		for _, a := range e.authorities {
			found = append(found, []Finding{judgeCAA(name, at, records, a)})
		}
		return oneIsEnough(found)
	})
}

// climb looks for CAA records at the name, then at each of its parents: the
// first that has any counts.
func climb(ctx context.Context, r resolver, name string) (at string, records []caaRecord, err error) {
	at = strings.TrimSuffix(strings.TrimPrefix(name, "*."), ".")
	for {
		records, err = r.LookupCAA(ctx, at)
		_, parent, deeper := strings.Cut(at, ".")
		if err != nil || len(records) > 0 || !deeper {
			return at, records, err
		}
		at = parent
	}
}

// judgeCAA holds the records that count for a name against one CA.
func judgeCAA(name, at string, records []caaRecord, a authority) Finding {
	if tag := unknownCritical(records); tag != "" {
		return failure(name, fmt.Sprintf("A critical CAA record of %s has the tag %q, which CAs do not know.", at, tag),
			"Correct or remove that record.")
	}
	issuers := issuersIn(records, strings.HasPrefix(name, "*."))
	identities := a.identities()
	switch {
	case issuers == nil:
		return good(name, fmt.Sprintf("The CAA records of %s restrict no CA.", at))
	case len(identities) == 0:
		return warning(name, fmt.Sprintf("%s has CAA records, and %s does not say by which name they would permit it.", at, a.url),
			"See in the documentation of the CA which name it looks for, and whether the records have it.")
	}
	return judgeIssuers(name, at, issuers, identities)
}

func judgeIssuers(name, at string, issuers []issuer, identities []string) Finding {
	permits := slices.DeleteFunc(slices.Clone(issuers), func(i issuer) bool { return !slices.Contains(identities, i.domain) })
	mend := fmt.Sprintf("Add to %s the record: CAA 0 %s %q.", at, issuers[0].tag, identities[0])
	if len(permits) == 0 {
		return failure(name, fmt.Sprintf("The CAA records of %s do not permit %s.", at, strings.Join(identities, ", ")), mend)
	}
	usable := slices.DeleteFunc(slices.Clone(permits), func(i issuer) bool { return !i.letsUs() })
	if len(usable) == 0 {
		const text = "The CAA records of %s permit %s for other challenges (validationmethods) than http-01 and tls-alpn-01."
		return failure(name, fmt.Sprintf(text, at, permits[0].domain), mend)
	}
	text := fmt.Sprintf("The CAA records of %s permit %s.", at, usable[0].domain)
	if !slices.ContainsFunc(usable, func(i issuer) bool { return i.parameters["accounturi"] == "" }) {
		text += " They name an account there (accounturi); whether it is this one is not checked."
	}
	return good(name, text)
}

// identities are the names by which CAA records permit the CA.
func (a authority) identities() []string {
	var found []string
	for _, id := range a.Meta.CAAIdentities {
		found = append(found, strings.ToLower(id))
	}
	if len(found) == 0 && isLetsEncrypt(a.url) {
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

// letsUs is whether one of our challenges is permitted (RFC 8657).
func (i issuer) letsUs() bool {
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
