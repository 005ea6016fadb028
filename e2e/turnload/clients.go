package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"inbox/e2e/turnclient"
)

// client sends packets to the other client of its pair.
type client interface {
	// join connects a pair. It is called for one of its clients.
	join(other client, pair int) error
	send(payload []byte) error
	// receive returns the next payload, which is valid until the next call.
	receive() ([]byte, error)
	close()
}

// turnClient is a client with an allocation. The clients of a pair have bound a channel to
// each other's relay.
type turnClient struct{ *turnclient.Client }

const channel = 0x4000

// dialTURN connects from a source address and opens an allocation.
func dialTURN(t *target, from string, overTLS bool) (client, error) {
	var conn net.Conn
	var err error
	if overTLS {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err = tls.DialWithDialer(&d, "tcp", t.tls, &tls.Config{InsecureSkipVerify: true}) // self-signed certificate
	} else {
		conn, err = dialUDP(t.udp, from)
	}
	if err != nil {
		return nil, err
	}
	c := turnClient{turnclient.New(conn, t.username, t.password)}
	if err := c.Allocate(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", t.name, err)
	}
	return c, nil
}

// dialUDP connects a socket whose buffer holds what arrives while the client waits for a
// processor.
func dialUDP(addr, from string) (*net.UDPConn, error) {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, to)
	if err != nil {
		return nil, err
	}
	return c, c.SetReadBuffer(1 << 20)
}

func (c turnClient) join(other client, _ int) error {
	o := other.(turnClient)
	if err := c.Bind(channel, o.Relay); err != nil {
		return err
	}
	return o.Bind(channel, c.Relay)
}

func (c turnClient) send(payload []byte) error { return c.Send(channel, payload) }

func (c turnClient) receive() ([]byte, error) {
	_, payload, err := c.Receive()
	return payload, err
}

func (c turnClient) close() { c.Close() }

// forwarderClient is a client of the bare forwarder.
type forwarderClient struct {
	*net.UDPConn
	buf []byte
}

func dialForwarder(t *target, from string, _ bool) (client, error) {
	c, err := dialUDP(t.udp, from)
	return forwarderClient{c, make([]byte, 2048)}, err
}

func (c forwarderClient) join(other client, pair int) error {
	message := []byte{registration, byte(pair >> 8), byte(pair)}
	both := []forwarderClient{c, other.(forwarderClient)}
	for began := time.Now(); time.Since(began) < turnclient.Timeout; {
		complete := 0
		for _, one := range both {
			if _, err := one.Write(message); err != nil {
				return err
			}
		}
		for _, one := range both {
			_ = one.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if n, err := one.Read(one.buf); err == nil && n == len(message) {
				complete++
			}
			_ = one.SetReadDeadline(time.Time{})
		}
		if complete == len(both) {
			return nil
		}
	}
	return fmt.Errorf("pair %d is not registered after %v", pair, turnclient.Timeout)
}

func (c forwarderClient) send(payload []byte) error {
	_, err := c.Write(payload)
	return err
}

func (c forwarderClient) receive() ([]byte, error) {
	n, err := c.Read(c.buf)
	return c.buf[:n], err
}

func (c forwarderClient) close() { c.Close() }
