package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
)

// dial connects to the target from a loopback address. Over TLS it completes the handshake and
// requires the ALPN protocol.
func (t target) dial(ctx context.Context, source net.IP, protocol string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: source}}
	conn, err := d.DialContext(ctx, "tcp", t.addr)
	if err != nil || !t.https {
		return conn, err
	}
	// The servers are local and have self-signed certificates. TLS is used for its cost.
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	if got := secure.ConnectionState().NegotiatedProtocol; got != protocol && got != "" {
		conn.Close()
		return nil, fmt.Errorf("got protocol %q, want %q", got, protocol)
	}
	return secure, nil
}

// pairAddress returns the source address of a pair, from 127.0.1.1 on.
func pairAddress(pair int) net.IP { return net.IPv4(127, 0, byte(1+pair/250), byte(1+pair%250)) }

// peersPerAddress is how many peers share a source address: a household or a small office.
const peersPerAddress = 8

// peerAddress returns the source address of a peer. Each has a /24 of its own, as clients of many
// networks have.
func peerAddress(peer int) net.IP {
	n := peer / peersPerAddress
	return net.IPv4(127, byte(1+n/250), byte(1+n%250), 1)
}
