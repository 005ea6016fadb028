package tlsmgr

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"
)

// ticketServer serves a configuration that it never sees again, as a server does.
func ticketServer(t *testing.T, c *tls.Config) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	secure := tls.NewListener(l, c)
	go func() {
		for {
			conn, err := secure.Accept()
			if err != nil {
				return
			}
			go func() { io.WriteString(conn, "x"); conn.Close() }()
		}
	}()
	return l.Addr().String()
}

// resumes connects, and tells whether an earlier session was taken up.
func resumes(t *testing.T, addr string, sessions tls.ClientSessionCache) bool {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, ClientSessionCache: sessions, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.ReadAll(conn) // the ticket comes with the first bytes
	return conn.ConnectionState().DidResume
}

func TestTicketKeysTurnWhileServing(t *testing.T) {
	s, _ := startSelfSigned(t, "", here(), time.Now())
	s.tickets = newTickets()
	addr := ticketServer(t, s.TLSConfig())
	sessions := tls.NewLRUClientSessionCache(1)
	now := time.Now()
	if resumes(t, addr, sessions) {
		t.Fatal("the first session was taken for an earlier one")
	}
	for day := 1; day <= 3; day++ {
		s.tickets.turn(now.Add(time.Duration(day) * ticketLife))
		if !resumes(t, addr, sessions) {
			t.Errorf("day %d: the session of the day before was not taken up", day)
		}
	}
	for day := 4; day <= 4+ticketKeys; day++ {
		s.tickets.turn(now.Add(time.Duration(day) * ticketLife))
	}
	if resumes(t, addr, sessions) {
		t.Error("a session under a key long dropped was taken up")
	}
}

func TestTicketKeysTurnDaily(t *testing.T) {
	tickets := newTickets()
	now := tickets.since
	first := tickets.keys[0]
	tickets.turn(now.Add(ticketLife - time.Second))
	if tickets.keys[0] != first {
		t.Error("the key was replaced before its day was over")
	}
	for day := range 20 {
		tickets.turn(now.Add(time.Duration(day+1) * ticketLife))
	}
	if tickets.keys[0] == first || len(tickets.keys) != ticketKeys {
		t.Errorf("%d keys, want %d with a new one in front", len(tickets.keys), ticketKeys)
	}
}

// Two nodes with the same keys take up each other's sessions, and neither
// replaces the keys by itself.
func TestTicketKeysShared(t *testing.T) {
	keys := [][32]byte{{1}, {2}}
	one, _ := startSelfSigned(t, "", here(), time.Now())
	two, _ := startSelfSigned(t, "", here(), time.Now())
	one.tickets, two.tickets = NewTickets(keys), NewTickets(keys)
	sessions := tls.NewLRUClientSessionCache(1)
	resumes(t, ticketServer(t, one.TLSConfig()), sessions)
	second := ticketServer(t, two.TLSConfig())
	if !resumes(t, second, sessions) {
		t.Error("the second node did not take up the session")
	}
	two.tickets.turn(time.Now().Add(10 * ticketLife))
	if !resumes(t, second, sessions) {
		t.Error("a node replaced keys that are shared")
	}
	two.tickets.Set([][32]byte{{3}, keys[0]})
	if !resumes(t, second, sessions) {
		t.Error("a node one key ahead did not take up the session")
	}
}
