package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// resolveBind determines the address of the main listener. It needs the domains.
func (r *resolver) resolveBind() error {
	r.c.HTTPS = r.o.https
	r.c.Bind = Address{"bind", r.o.bind, r.o.from["bind"]}
	if r.c.Bind.From == "" && len(r.c.Domains) > 0 {
		r.c.Bind.Value = ":443"
	}
	if path, ok := strings.CutPrefix(r.c.Bind.Value, "unix:"); ok {
		if path == "" {
			return r.o.optionError("bind", errors.New("must name a path, such as unix:/run/inbox.sock"))
		}
		return nil
	}
	return r.checkAddress(r.c.Bind)
}

func (r *resolver) resolveMetrics() error {
	for _, name := range splitList(strings.ToLower(r.o.metricsHosts)) {
		if why := hostNameMistake(name, "metrics-bind"); why != "" && !strings.Contains(why, "underscore") || strings.ContainsAny(name, "/: \t") {
			return r.o.optionError("metrics-hosts", fmt.Errorf("%q must be a host name without scheme, port "+
				"or path, such as monitor.example.org", name))
		}
		r.c.MetricsHosts = append(r.c.MetricsHosts, name)
	}
	r.c.MetricsBind = Address{"metrics-bind", r.o.metricsBind, r.o.from["metrics-bind"]}
	if r.o.metricsBind == "" {
		return nil
	}
	return r.checkAddress(r.c.MetricsBind)
}

func (r *resolver) checkAddress(a Address) error {
	host, port, err := net.SplitHostPort(a.Value)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil || port == "" || !isBindHost(host) {
		return r.o.optionError(a.Option, errors.New("must be an address and a port, such as 0.0.0.0:3000, "+
			"[::1]:3000 or :3000"))
	}
	return nil
}

// isBindHost reports whether a host can be listened on: all addresses, an address, or a
// name of this machine. Anything else would only be sent to DNS servers.
func isBindHost(host string) bool {
	if _, err := netip.ParseAddr(host); host == "" || err == nil {
		return true
	}
	return len(host) <= 253 && !strings.ContainsFunc(host, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_')
	})
}
