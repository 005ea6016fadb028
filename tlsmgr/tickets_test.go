package tlsmgr

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/certmagic"
	"inbox/tlsmgr/internal/tlstest"
)

// ticketServer serves TLS with c. As in a real server, listener and configuration stay
// the same while keys rotate.
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

// sessionResumed connects and reports whether a session was resumed.
func sessionResumed(t *testing.T, addr string, sessions tls.ClientSessionCache) bool {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, ClientSessionCache: sessions, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.ReadAll(conn) // the ticket arrives with the first bytes
	return conn.ConnectionState().DidResume
}

func TestTicketKeysRotateWhileServing(t *testing.T) {
	s, _ := startSelfSigned(t, "", testHostNames(), time.Now())
	addr := ticketServer(t, s.TLSConfig())
	sessions := tls.NewLRUClientSessionCache(1)
	once := tls.NewLRUClientSessionCache(1)
	now := time.Now()
	if sessionResumed(t, addr, sessions) || sessionResumed(t, addr, once) {
		t.Fatal("the first connection resumed a session")
	}
	for day := 1; day <= 6; day++ {
		s.tickets.rotate(now.Add(time.Duration(day) * ticketKeyLifetime))
		if !sessionResumed(t, addr, sessions) {
			t.Errorf("day %d: the session of the previous day was not resumed", day)
		}
	}
	if !sessionResumed(t, addr, once) {
		t.Error("a session from six days ago was not resumed")
	}
	for day := 7; day <= 7+maxTicketKeys; day++ {
		s.tickets.rotate(now.Add(time.Duration(day) * ticketKeyLifetime))
	}
	if sessionResumed(t, addr, sessions) {
		t.Error("a session with a dropped key was resumed")
	}
}

func TestTicketKeysRotateDaily(t *testing.T) {
	log, _ := tlstest.NewLog()
	tickets := newTickets(nil, log)
	first := tickets.keys[0]
	now := first.ActiveFrom
	tickets.rotate(now.Add(ticketKeyLifetime - time.Second))
	if !bytes.Equal(tickets.keys[0].Key, first.Key) {
		t.Error("the key was rotated within a day")
	}
	for day := range 20 {
		tickets.rotate(now.Add(time.Duration(day+1) * ticketKeyLifetime))
	}
	if bytes.Equal(tickets.keys[0].Key, first.Key) || len(tickets.keys) != maxTicketKeys {
		t.Errorf("got %d keys, want %d with a new one first", len(tickets.keys), maxTicketKeys)
	}
}

// Run of every source rotates the ticket keys daily.
func TestEverySourceRotatesTicketKeys(t *testing.T) {
	pair := newPairFiles(t)
	for name, c := range map[string]Config{
		"self-signed": {},
		"files":       {CertFile: pair.cert, KeyFile: pair.key},
		"managed":     {Domains: []string{"one.example.org"}, ACME: acme.Config{Engine: certmagic.New, Agreed: true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				chain, key := tlstest.MakePair(t, "one.example.org", time.Now(), time.Now().Add(2*ticketKeyLifetime))
				pair.write(t, chain, key)
				s, err := New(c)
				if err != nil {
					t.Fatal(err)
				}
				if f, ok := s.source.(*files); ok {
					f.interval = time.Minute // a check each second slows the test
				}
				if config := s.TLSConfig(); config.WrapSession == nil || config.UnwrapSession == nil {
					t.Error("the TLS configuration does not use the tickets")
				}
				tickets := s.tickets
				first := tickets.keys[0]
				ctx, cancel := context.WithTimeout(t.Context(), ticketKeyLifetime+2*time.Minute)
				defer cancel()
				s.Run(ctx)
				if len(tickets.keys) != 2 || bytes.Equal(tickets.keys[0].Key, first.Key) {
					t.Errorf("after a day: got %d keys, want a second one first", len(tickets.keys))
				}
			})
		})
	}
}

// A node loads the shared keys when it starts.
func TestTicketKeysAreSharedAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := tlstest.NewSharedStorage(t)
		log, _ := tlstest.NewLog()
		one, two := newTickets(store, log), newTickets(store, log)
		one.sync(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		two.run(ctx)
		if !bytes.Equal(one.keys[0].Key, two.keys[0].Key) {
			t.Error("one second after the start, a node uses local keys")
		}
	})
}

// Nodes on a shared store resume each other's sessions, also while a new key is being
// distributed. A node that cannot reach the store keeps its keys.
func TestTicketKeysShared(t *testing.T) {
	store := tlstest.NewSharedStorage(t)
	log, buf := tlstest.NewLog()
	one, _ := startSelfSigned(t, "", testHostNames(), time.Now())
	two, _ := startSelfSigned(t, "", testHostNames(), time.Now())
	one.tickets, two.tickets = newTickets(store, log), newTickets(store, log)
	now := time.Now()
	syncAt := func(later time.Duration, nodes ...*tickets) {
		t.Helper()
		for _, node := range nodes {
			if err := node.syncKeys(t.Context(), now.Add(later)); err != nil {
				t.Fatal(err)
			}
		}
	}
	syncAt(0, one.tickets, two.tickets)
	sessions := tls.NewLRUClientSessionCache(1)
	first, second := ticketServer(t, one.TLSConfig()), ticketServer(t, two.TLSConfig())
	sessionResumed(t, first, sessions)
	if !sessionResumed(t, second, sessions) {
		t.Error("the second node did not resume the session")
	}
	syncAt(ticketKeyLifetime, two.tickets) // creates a key that the first has not loaded
	if len(two.tickets.keys) != 2 || !sessionResumed(t, second, sessions) || !sessionResumed(t, first, sessions) {
		t.Errorf("with %d keys, before all nodes have the new one: a session was not resumed", len(two.tickets.keys))
	}
	syncAt(ticketKeyLifetime+ticketSyncInterval, one.tickets, two.tickets)
	syncAt(ticketKeyLifetime+ticketKeyLead, two.tickets)
	if !sessionResumed(t, second, sessions) || !sessionResumed(t, first, sessions) {
		t.Error("the other node did not resume a session with the new key")
	}
	store.Unavailable.Store(true)
	one.tickets.sync(t.Context())
	one.tickets.sync(t.Context())
	if !sessionResumed(t, first, sessions) || buf.Count("cannot share") != 1 {
		t.Errorf("without the store: want the session resumed and one warning:\n%s", buf)
	}
}

// A node whose clock is a year ahead creates keys that are active in a year. Other
// nodes rotate keys nevertheless, and can decrypt its tickets.
func TestTicketKeysWithClockAhead(t *testing.T) {
	store := tlstest.NewSharedStorage(t)
	log, _ := tlstest.NewLog()
	const year = 365 * ticketKeyLifetime
	ahead, accurate := newTickets(store, log), newTickets(store, log)
	now := time.Now()
	for day := range 30 {
		for _, node := range []struct {
			tickets *tickets
			skew    time.Duration
		}{{ahead, year}, {accurate, 0}, {ahead, year}} {
			for range 3 {
				if err := node.tickets.syncKeys(t.Context(), now.Add(time.Duration(day)*ticketKeyLifetime+node.skew)); err != nil {
					t.Fatal(err)
				}
			}
		}
		at := now.Add(time.Duration(day) * ticketKeyLifetime)
		current := activeKeyIndex(accurate.keys, at.Add(ticketKeyLead))
		if current == len(accurate.keys) || at.Sub(accurate.keys[current].ActiveFrom) >= ticketKeyLifetime {
			t.Fatalf("day %d: none of %d keys is from that day", day, len(accurate.keys))
		}
		encrypting := ahead.keys[activeKeyIndex(ahead.keys, at.Add(year))].Key
		if !slices.ContainsFunc(accurate.keys, func(k ticketKey) bool { return bytes.Equal(k.Key, encrypting) }) && day > 0 {
			accurate.sync(t.Context())
			if !slices.ContainsFunc(accurate.keys, func(k ticketKey) bool { return bytes.Equal(k.Key, encrypting) }) {
				t.Fatalf("day %d: tickets of the node ahead cannot be decrypted", day)
			}
		}
	}
	if len(accurate.keys) > maxTicketKeys {
		t.Errorf("got %d keys, want at most %d", len(accurate.keys), maxTicketKeys)
	}
}

// Invalid keys in the store are replaced.
func TestCorruptTicketKeys(t *testing.T) {
	for name, text := range map[string]string{"not JSON": "x", "short key": `[{"Key":"AAAA"}]`, "empty list": `[]`} {
		store := tlstest.NewSharedStorage(t)
		log, _ := tlstest.NewLog()
		if err := store.Store(t.Context(), ticketStorageKey, []byte(text)); err != nil {
			t.Fatal(err)
		}
		tickets := newTickets(store, log)
		if err := tickets.syncKeys(t.Context(), time.Now()); err != nil || len(tickets.keys) != 1 {
			t.Errorf("%s: got %v and %d keys, want one new key", name, err, len(tickets.keys))
		}
	}
}
