package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// resolver queries DNS. It must be safe for concurrent use.
type resolver interface {
	// LookupNetIP returns the addresses of a host; network is "ip". For a host
	// without addresses the error is a *net.DNSError with IsNotFound. With other
	// errors it can still return some addresses.
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	// LookupCAA returns the CAA records of exactly this name, following aliases.
	// No records is not an error.
	LookupCAA(ctx context.Context, name string) ([]caaRecord, error)
}

// caaRecord is one CAA record (RFC 8659).
type caaRecord struct {
	Critical   bool
	Tag, Value string
}

const (
	resolvConf = "/etc/resolv.conf"
	// dnsTimeout bounds one query to one server; dnsTries is the number of queries
	// to each.
	dnsTimeout = 2 * time.Second
	dnsTries   = 2
	// ednsSize is the largest UDP response in bytes that is not fragmented in practice.
	ednsSize = 1232
)

// dnsClient queries this machine's DNS servers only. The hosts file, in which
// Debian maps the machine's own name to 127.0.1.1, is not what the CA will see.
type dnsClient struct {
	servers []string // with port
	timeout time.Duration
}

// systemResolver returns a resolver for the servers in a file like resolv.conf.
func systemResolver(file string) resolver {
	conf, err := dns.ClientConfigFromFile(file)
	if err != nil || len(conf.Servers) == 0 {
		return goResolver{net.DefaultResolver}
	}
	c := dnsClient{timeout: dnsTimeout}
	for _, s := range conf.Servers {
		c.servers = append(c.servers, net.JoinHostPort(s, conf.Port))
	}
	return c
}

// goResolver is the resolver of systems without resolv.conf.
type goResolver struct{ *net.Resolver }

func (goResolver) LookupCAA(context.Context, string) ([]caaRecord, error) {
	return nil, fmt.Errorf("no DNS server in %s", resolvConf)
}

func (c dnsClient) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	var found []netip.Addr
	var errs []error
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		records, err := c.lookup(ctx, host, kind)
		errs = append(errs, err)
		for _, r := range records {
			if addr, ok := netip.AddrFromSlice(addrOf(r)); ok {
				found = append(found, addr.Unmap())
			}
		}
	}
	err := errors.Join(errs...)
	if err == nil && len(found) == 0 {
		err = &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
	}
	return found, err
}

func addrOf(r dns.RR) net.IP {
	switch r := r.(type) {
	case *dns.A:
		return r.A.To4()
	case *dns.AAAA:
		return r.AAAA
	}
	return nil // a CNAME
}

func (c dnsClient) LookupCAA(ctx context.Context, name string) ([]caaRecord, error) {
	records, err := c.lookup(ctx, name, dns.TypeCAA)
	var found []caaRecord
	for _, r := range records {
		if caa, ok := r.(*dns.CAA); ok {
			found = append(found, caaRecord{caa.Flag&128 != 0, caa.Tag, caa.Value})
		}
	}
	return found, err
}

// lookup queries one server after the other until one responds. The response can
// be empty.
func (c dnsClient) lookup(ctx context.Context, name string, kind uint16) ([]dns.RR, error) {
	question := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind).SetEdns0(ednsSize, false)
	var err error
	for range dnsTries {
		for _, server := range c.servers {
			var answer *dns.Msg
			if answer, err = c.exchange(ctx, question, server); err == nil {
				return answer.Answer, nil
			}
		}
	}
	return nil, fmt.Errorf("look up %s records: %w", dns.TypeToString[kind], err)
}

// exchange queries one server, over TCP if the response over UDP is truncated.
func (c dnsClient) exchange(ctx context.Context, question *dns.Msg, server string) (answer *dns.Msg, err error) {
	for _, network := range []string{"udp", "tcp"} {
		client := dns.Client{Net: network, Timeout: c.timeout, UDPSize: ednsSize}
		answer, _, err = client.ExchangeContext(ctx, question, server)
		switch {
		case err != nil:
			return nil, err
		case answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError:
			return nil, fmt.Errorf("the DNS server responds with %s", dns.RcodeToString[answer.Rcode])
		case !answer.Truncated:
			return answer, nil
		}
	}
	return nil, errors.New("the DNS server truncates its responses, over TCP too")
}
