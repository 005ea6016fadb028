package turn

import (
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// nameServer is the name server of all hosts, on the router.
type nameServer []*dns.Server

// startNameServer serves at each address of the router.
func (n network) startNameServer() (all nameServer, err error) {
	for _, h := range hosts {
		for _, link := range h.links() {
			var c net.PacketConn
			err := n.Do("router", func() (err error) {
				c, err = net.ListenPacket("udp", netip.AddrPortFrom(gateway(link), 53).String())
				return err
			})
			if err != nil {
				return all, err
			}
			s := &dns.Server{PacketConn: c, Handler: dns.HandlerFunc(resolve)}
			all = append(all, s)
			go func() { _ = s.ActivateAndServe() }() // returns at Shutdown
		}
	}
	return all, nil
}

func (all nameServer) stop() {
	for _, s := range all {
		_ = s.Shutdown() // fails only if not running
	}
}

// resolve answers with the addresses of the asked family.
func resolve(w dns.ResponseWriter, q *dns.Msg) {
	answer := new(dns.Msg).SetReply(q)
	asked := q.Question[0]
	known := addrs[strings.ToLower(strings.TrimSuffix(asked.Name, "."))]
	if known == nil {
		answer.Rcode = dns.RcodeNameError
	}
	for _, addr := range known {
		header := dns.RR_Header{Name: asked.Name, Class: dns.ClassINET, Ttl: 60, Rrtype: dns.TypeA}
		ip := net.ParseIP(addr)
		switch {
		case asked.Qtype == dns.TypeA && ip.To4() != nil:
			answer.Answer = append(answer.Answer, &dns.A{Hdr: header, A: ip})
		case asked.Qtype == dns.TypeAAAA && ip.To4() == nil:
			header.Rrtype = dns.TypeAAAA
			answer.Answer = append(answer.Answer, &dns.AAAA{Hdr: header, AAAA: ip})
		}
	}
	_ = w.WriteMsg(answer) // the client repeats the query
}
