// Command testca is a CA and a name server for tests of a whole machine: Pebble, and a DNS server
// that answers every name with 127.0.0.1. It runs until it is killed.
//
//	testca -http-port 80 -tls-port 443 -root /root/ca.pem
//
// With another address of -listen, the certificate of its HTTPS server is for that address as well.
//
// It prints "ready" when it listens. The root file contains the root certificate of its HTTPS
// server, for -acme-root.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:14000", "address of the CA")
	dnsListen := flag.String("dns", "127.0.0.1:53", "address of the name server")
	httpPort := flag.Int("http-port", 80, "port of http-01 challenges")
	tlsPort := flag.Int("tls-port", 443, "port of tls-alpn-01 challenges")
	rootFile := flag.String("root", "", "file to write the root certificate to")
	flag.Parse()
	if err := run(*listen, *dnsListen, *httpPort, *tlsPort, *rootFile); err != nil {
		log.Fatal(err)
	}
}

func run(listen, dnsListen string, httpPort, tlsPort int, rootFile string) error {
	if err := startNameserver(dnsListen); err != nil {
		return err
	}
	cert, err := serverCertificate(listen, rootFile)
	if err != nil {
		return err
	}
	l, err := tls.Listen("tcp", listen, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return http.Serve(l, newCA(httpPort, tlsPort, dnsListen))
}

// newCA returns a CA whose certificates are valid for a day.
func newCA(httpPort, tlsPort int, nameserver string) http.Handler {
	for name, value := range map[string]string{"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_WFE_NONCEREJECT": "0"} {
		os.Setenv(name, value)
	}
	discard, store := log.New(io.Discard, "", 0), db.NewMemoryStore()
	profiles := map[string]ca.Profile{"default": {Description: "default", ValidityPeriod: 24 * 60 * 60}}
	issuer := ca.New(discard, store, "", "ecdsa", 0, 1, profiles)
	validator := va.New(discard, httpPort, tlsPort, false, nameserver, store)
	frontend := wfe.New(discard, store, validator, issuer, []string{"ca.test"}, false, false, 0, 0)
	return frontend.Handler()
}

// serverCertificate creates the certificate of the HTTPS server at an address, and its root file.
func serverCertificate(listen, rootFile string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	addrs := []net.IP{net.IPv4(127, 0, 0, 1)}
	if addr, err := netip.ParseAddrPort(listen); err == nil {
		addrs = append(addrs, addr.Addr().AsSlice())
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: addrs, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, os.WriteFile(rootFile, text, 0o644)
}

// startNameserver answers over UDP and TCP.
func startNameserver(addr string) error {
	packets, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	go (&dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(answer)}).ActivateAndServe()
	go (&dns.Server{Listener: l, Handler: dns.HandlerFunc(answer)}).ActivateAndServe()
	return nil
}

func answer(w dns.ResponseWriter, q *dns.Msg) {
	reply := new(dns.Msg)
	reply.SetReply(q)
	if name := q.Question[0].Name; q.Question[0].Qtype == dns.TypeA {
		header := dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}
		reply.Answer = []dns.RR{&dns.A{Hdr: header, A: net.IPv4(127, 0, 0, 1)}}
	}
	w.WriteMsg(reply)
}
