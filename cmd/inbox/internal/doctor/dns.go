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

// resolver asks DNS. It may be used concurrently.
type resolver interface {
	// LookupNetIP returns the addresses of a host; network is "ip". A host
	// without any is a *net.DNSError with IsNotFound. Other errors may come
	// with the addresses that were found all the same.
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	// LookupCAA returns the CAA records at exactly this name, following
	// aliases. None is no error.
	LookupCAA(ctx context.Context, name string) ([]caaRecord, error)
}

// caaRecord is one CAA record (RFC 8659).
type caaRecord struct {
	Critical   bool
	Tag, Value string
}

const (
	resolvConf = "/etc/resolv.conf"
	// dnsTimeout is for one question to one server, dnsTries how often each is asked.
	dnsTimeout = 2 * time.Second
	dnsTries   = 2
	// ednsSize is the largest answer over UDP that passes everywhere unbroken.
	ednsSize = 1232
)

// dnsClient asks the servers of this machine, and nothing but DNS: the hosts
// file, where Debian gives a machine's own name 127.0.1.1, says nothing of
// what the CA will see.
type dnsClient struct {
	servers []string // with port
	timeout time.Duration
}

// systemResolver reads the servers from a file like resolv.conf.
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

// goResolver is for systems that name no DNS servers in a file.
type goResolver struct{ *net.Resolver }

func (goResolver) LookupCAA(context.Context, string) ([]caaRecord, error) {
	return nil, fmt.Errorf("find a DNS server: %s names none", resolvConf)
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
	return nil // an alias on the way
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

// lookup asks one server after the other until one knows the answer, which may
// be that there is none.
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
	return nil, fmt.Errorf("ask for %s records: %w", dns.TypeToString[kind], err)
}

// exchange asks one server, over TCP when the answer does not fit.
func (c dnsClient) exchange(ctx context.Context, question *dns.Msg, server string) (answer *dns.Msg, err error) {
	for _, network := range []string{"udp", "tcp"} {
		client := dns.Client{Net: network, Timeout: c.timeout, UDPSize: ednsSize}
		answer, _, err = client.ExchangeContext(ctx, question, server)
		switch {
		case err != nil:
			return nil, err
		case answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError:
			return nil, fmt.Errorf("the DNS server says %s", dns.RcodeToString[answer.Rcode])
		case !answer.Truncated:
			return answer, nil
		}
	}
	return nil, errors.New("the DNS server cuts its answers, over TCP too")
}
