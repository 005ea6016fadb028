package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// resolveProxies parses the trusted networks. A single address is a network of one.
func (r *resolver) resolveProxies() error {
	r.c.ClientHeader, r.c.ProxyProtocol = r.o.clientHeader, r.o.proxyProtocol
	if !isFieldName(r.o.clientHeader) {
		return r.o.optionError("client-header", errors.New("must be the name of one header field, such as X-Real-IP"))
	}
	if r.o.trustedProxies == "" {
		if r.o.proxyProtocol {
			return r.o.optionError("proxy-protocol", errors.New("requires -trusted-proxies: without it any "+
				"client could claim any address"))
		}
		return nil
	}
	for text := range strings.SplitSeq(r.o.trustedProxies, ",") {
		p, err := parseNetwork(strings.TrimSpace(text))
		if err != nil {
			return r.o.optionError("trusted-proxies", err)
		}
		r.c.TrustedProxies = append(r.c.TrustedProxies, p)
	}
	return nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p, nil
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		if p, err := addr.Prefix(addr.BitLen()); err == nil { // fails with a zone
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("%q is not a network: must be an address such as 192.0.2.1 or a "+
		"network such as 10.0.0.0/8; separate several by commas", text)
}

// isFieldName reports whether name can be the name of a header field. An empty one is the
// default.
func isFieldName(name string) bool {
	return !strings.ContainsFunc(name, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}

func (r *resolver) resolveOrigins() error {
	r.c.AnyOrigin = r.o.cors
	if r.o.corsOrigins == "" {
		return nil
	}
	if r.o.cors {
		return r.o.optionError("cors-origins", errors.New("conflicts with -cors, which allows every origin; "+
			"remove one of the two"))
	}
	for origin := range strings.SplitSeq(r.o.corsOrigins, ",") {
		origin = strings.TrimSpace(origin)
		if !isSerializedOrigin(origin) {
			return r.o.optionError("cors-origins", fmt.Errorf("%q is not an origin: must be scheme and host "+
				"as sent by browsers, such as https://example.org, in ASCII, without wildcard, default port "+
				"or trailing slash", origin))
		}
		r.c.Origins = append(r.c.Origins, origin)
	}
	return nil
}

// isSerializedOrigin reports whether browsers send an origin in this form (RFC 6454). An
// origin with a wildcard, a default port or non-ASCII letters would never match.
func isSerializedOrigin(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin {
		return false
	}
	for _, c := range u.Host {
		if c > 0x7e || strings.ContainsRune("*;'\"`,!$&()+=~|^", c) {
			return false
		}
	}
	return !(u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80")
}
