package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
)

// registration is the first byte of the packet that registers a client. The others are the
// number of its pair. A client gets it back when its pair is complete.
const registration = 0xFF

// forward copies packets between the two clients of each pair until ctx ends. It is the
// baseline: the cost of receiving and sending a datagram, and of looking up its destination.
func forward(ctx context.Context, logs io.Writer) error {
	c, err := udpSocket()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { c.Close() })()
	slog.New(slog.NewTextHandler(logs, nil)).Info("listening", "addr", c.LocalAddr())
	pairs := map[string]netip.AddrPort{}          // clients that wait for the other one
	others := map[netip.AddrPort]netip.AddrPort{} // complete pairs
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if to, ok := others[from]; ok && buf[0] != registration {
			_, _ = c.WriteToUDPAddrPort(buf[:n], to) // a datagram can get lost
			continue
		}
		if n > 0 && buf[0] == registration {
			register(c, pairs, others, string(buf[:n]), from)
		}
	}
}

// register joins the clients of a pair. A client repeats its registration until it gets it
// back.
func register(c *net.UDPConn, pairs map[string]netip.AddrPort, others map[netip.AddrPort]netip.AddrPort, pair string, from netip.AddrPort) {
	first, known := pairs[pair]
	if !known {
		pairs[pair] = from
		return
	}
	if first != from {
		others[first], others[from] = from, first
	}
	if _, complete := others[from]; complete {
		_, _ = c.WriteToUDPAddrPort([]byte(pair), from)
	}
}
