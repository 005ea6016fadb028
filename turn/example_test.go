package turn_test

import (
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/netip"
	"sync"
	"time"

	pion "github.com/pion/turn/v5"
	"golang.org/x/time/rate"

	"inbox/turn"
)

// perAddress allows each address a number of allocations.
type perAddress struct {
	max  int64
	mu   sync.Mutex
	held map[netip.Addr]int64 // has only addresses with allocations
}

func (p *perAddress) Reserve(a netip.Addr, n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[a]+n > p.max {
		return false
	}
	p.held[a] += n
	return true
}

func (p *perAddress) Release(a netip.Addr, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[a] -= n; p.held[a] <= 0 {
		delete(p.held, a)
	}
}

// serveTLS serves at most 1,000 connections at a time.
func serveTLS(server *turn.Server, l net.Listener, config *tls.Config) {
	slots := make(chan struct{}, 1000)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		slots <- struct{}{}
		go func() {
			server.ServeConn(tls.Server(c, config)) // ten seconds, with the handshake, for an allocation
			<-slots
		}()
	}
}

// A server that relays 100 GB a month at 50 Mbit/s, for clients over UDP and TLS. Both
// clients of a call use it.
func Example() {
	unauthenticated := rate.NewLimiter(1000, 1000) // answers a second to sources that can be forged
	server, err := turn.New(turn.Config{
		Secret:               []byte("32 random bytes, kept in a file."),
		RateBits:             50e6,
		MonthBytes:           100e9,
		Allocations:          &perAddress{max: 32, held: make(map[netip.Addr]int64)},
		AllowUnauthenticated: func(netip.Addr) bool { return unauthenticated.Allow() },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}) // usually port 3478 of all addresses
	if err != nil {
		log.Fatal(err)
	}
	go server.ServeUDP(udp)

	tcp, err := net.Listen("tcp", "127.0.0.1:0") // usually port 5349, or 443 beside HTTPS
	if err != nil {
		log.Fatal(err)
	}
	defer tcp.Close()
	go serveTLS(server, tcp, &tls.Config{ /* Certificates */ })

	// Each user gets credentials over another channel, such as HTTPS. An application calls
	// Revoke when a user is deleted, and saves the Ledger every minute.
	alice := newRelay(server.Credentials("alice", turn.Payer{Client: "198.51.100.1"}), udp.LocalAddr())
	defer alice.Close()
	bob := newRelay(server.Credentials("bob", turn.Payer{Client: "198.51.100.2"}), udp.LocalAddr())
	defer bob.Close()
	bob.WriteTo([]byte("permits the relay of Alice"), alice.LocalAddr())
	bob.SetReadDeadline(time.Now().Add(10 * time.Second))
	alice.WriteTo([]byte("hello"), bob.LocalAddr())
	buf := make([]byte, 100)
	n, _, err := bob.ReadFrom(buf)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", buf[:n])
	// Output: hello
}

// relay is what a browser has of a client.
type relay struct {
	net.PacketConn
	client *pion.Client
	conn   net.PacketConn
}

func newRelay(c turn.Credentials, server net.Addr) relay {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	client, err := pion.NewClient(&pion.ClientConfig{
		Conn: conn, TURNServerAddr: server.String(), Username: c.Username, Password: c.Password,
	})
	if err == nil {
		err = client.Listen()
	}
	if err != nil {
		log.Fatal(err)
	}
	allocated, err := client.Allocate()
	if err != nil {
		log.Fatal(err)
	}
	return relay{allocated, client, conn}
}

func (r relay) Close() error {
	r.PacketConn.Close()
	r.client.Close()
	return r.conn.Close()
}
