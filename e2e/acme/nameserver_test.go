package acme

import (
	"context"
	"net"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// nameserver resolves every name to 127.0.0.1, except those set to unknown.
type nameserver struct {
	addr string

	mu      sync.Mutex
	unknown map[string]bool
}

func newNameserver(t *testing.T) *nameserver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameserver{addr: l.Addr().String(), unknown: map[string]bool{}}
	ready := make(chan struct{})
	server := &dns.Server{Listener: l, Handler: n, NotifyStartedFunc: func() { close(ready) }}
	go server.ActivateAndServe()
	<-ready
	t.Cleanup(func() { server.Shutdown() })
	return n
}

func (n *nameserver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	reply := new(dns.Msg)
	reply.SetReply(q)
	name, kind := q.Question[0].Name, q.Question[0].Qtype
	switch {
	case n.isUnknown(name):
		reply.Rcode = dns.RcodeNameError
	case kind == dns.TypeA:
		header := dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: 1}
		reply.Answer = []dns.RR{&dns.A{Hdr: header, A: net.IPv4(127, 0, 0, 1)}}
	}
	w.WriteMsg(reply)
}

func (n *nameserver) isUnknown(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.unknown[name]
}

func (n *nameserver) setUnknown(name string, unknown bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unknown[dns.Fqdn(name)] = unknown
}

// resolver returns a resolver that queries only this server.
func (n *nameserver) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", n.addr)
	}}
}
