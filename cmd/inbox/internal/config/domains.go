package config

import (
	"errors"
	"fmt"
	"strings"

	"inbox/tlsmgr/acme"
)

// resolveDomains resolves the options of automatic certificates. tlsmgr validates the
// CAs, and the combination of options.
func (r *resolver) resolveDomains() error {
	o, a := r.o, r.o.acme
	if err := r.checkDomains(); err != nil {
		return err
	}
	r.c.Domains = splitList(o.domain)
	r.c.ACME = ACME{
		Engine: a.engine, Email: o.email, Agreed: a.agree, CA: a.ca, FallbackCA: a.fallback,
		Staging: a.staging, StagingFirst: a.stagingFirst, Profile: a.profile, Preflight: a.preflight,
		NoHTTP01: a.challenge == "tls-alpn-01", NoTLSALPN01: a.challenge == "http-01",
		Given: r.givenACME(),
	}
	r.c.HTTPBind = Address{Option: "http-bind", From: o.from["http-bind"]}
	switch given := o.from["http-bind"] != "" && o.httpBind != ""; {
	case len(r.c.Domains) == 0 && given:
		return o.optionError("http-bind", errors.New("requires -domain: without a host name there is no "+
			"HTTPS address to redirect to"))
	case len(r.c.Domains) == 0:
		return nil
	case !o.https:
		return o.optionError("domain", errors.New("conflicts with -https=false: automatic certificates "+
			"require HTTPS; remove one of the two"))
	case o.email == "" && !a.agree:
		return o.optionError("domain", errors.New("requires -email ADDRESS, a contact address for the CA, "+
			"or -acme-agree: either one agrees to the CA's terms of service"))
	case o.httpBind == "":
		return nil
	}
	r.c.HTTPBind.Value = o.httpBind
	return r.checkAddress(r.c.HTTPBind)
}

// checkDomains reports what is wrong with a name of -domain.
func (r *resolver) checkDomains() error {
	if r.o.domain != "" && len(splitList(r.o.domain)) == 0 {
		return r.o.optionError("domain", errors.New("contains no host name"))
	}
	for _, name := range splitList(r.o.domain) {
		if why := hostNameMistake(name, "bind"); why != "" {
			return r.o.optionError("domain", fmt.Errorf("%q %s", name, why))
		}
		if _, err := acme.Names([]string{name}); err != nil {
			return r.o.optionError("domain", errors.New(strings.TrimPrefix(err.Error(), acme.ErrUsage.Error()+": ")))
		}
	}
	return nil
}

// givenACME lists the options of certificates that are given, with their sources.
func (r *resolver) givenACME() string {
	var given []string
	for _, name := range append([]string{"domain", "http-bind"}, noEffect[0].options...) {
		if from := r.o.from[name]; from != "" {
			given = append(given, fmt.Sprintf("-%s (from %s)", name, from))
		}
	}
	return strings.Join(given, ", ")
}
