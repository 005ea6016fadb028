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

// sessionResumed connects, and tells whether an earlier session was taken up.
func sessionResumed(t *testing.T, addr string, sessions tls.ClientSessionCache) bool {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, ClientSessionCache: sessions, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.ReadAll(conn) // the ticket comes with the first bytes
	return conn.ConnectionState().DidResume
}

func TestTicketKeysRotateWhileServing(t *testing.T) {
	s, _ := startSelfSigned(t, "", testHostNames(), time.Now())
	s.tickets = newTickets(nil, s.log)
	addr := ticketServer(t, s.TLSConfig())
	sessions := tls.NewLRUClientSessionCache(1)
	once := tls.NewLRUClientSessionCache(1)
	now := time.Now()
	if sessionResumed(t, addr, sessions) || sessionResumed(t, addr, once) {
		t.Fatal("the first session was taken for an earlier one")
	}
	for day := 1; day <= 6; day++ {
		s.tickets.rotate(now.Add(time.Duration(day) * ticketKeyLifetime))
		if !sessionResumed(t, addr, sessions) {
			t.Errorf("day %d: the session of the day before was not taken up", day)
		}
	}
	if !sessionResumed(t, addr, once) {
		t.Error("a session of six days ago was not taken up")
	}
	for day := 7; day <= 7+maxTicketKeys; day++ {
		s.tickets.rotate(now.Add(time.Duration(day) * ticketKeyLifetime))
	}
	if sessionResumed(t, addr, sessions) {
		t.Error("a session under a key long dropped was taken up")
	}
}

func TestTicketKeysRotateDaily(t *testing.T) {
	log, _ := newLog()
	tickets := newTickets(nil, log)
	first := tickets.keys[0]
	now := first.ActiveFrom
	tickets.rotate(now.Add(ticketKeyLifetime - time.Second))
	if !bytes.Equal(tickets.keys[0].Key, first.Key) {
		t.Error("the key was replaced before its day was over")
	}
	for day := range 20 {
		tickets.rotate(now.Add(time.Duration(day+1) * ticketKeyLifetime))
	}
	if bytes.Equal(tickets.keys[0].Key, first.Key) || len(tickets.keys) != maxTicketKeys {
		t.Errorf("%d keys, want %d with a new one in front", len(tickets.keys), maxTicketKeys)
	}
}

// Every source turns the keys of the tickets it hands out, each day that it runs.
func TestEverySourceRotatesTicketKeys(t *testing.T) {
	pair := newPairFiles(t)
	for name, c := range map[string]Config{
		"self-signed": {},
		"files":       {CertFile: pair.cert, KeyFile: pair.key},
		"managed":     {Domains: []string{"one.example.org"}, ACME: ACME{Agreed: true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				chain, key := makePair(t, "one.example.org", time.Now(), time.Now().Add(2*ticketKeyLifetime))
				pair.write(t, chain, key)
				s, err := New(c)
				if err != nil {
					t.Fatal(err)
				}
				if f, ok := s.(*files); ok {
					f.interval = time.Minute // to look each second makes for a long day
				}
				if config := s.TLSConfig(); config.WrapSession == nil || config.UnwrapSession == nil {
					t.Error("its sessions are sealed by other keys")
				}
				tickets := ticketsOf(s)
				first := tickets.keys[0]
				ctx, cancel := context.WithTimeout(t.Context(), ticketKeyLifetime+2*time.Minute)
				defer cancel()
				s.Run(ctx)
				if len(tickets.keys) != 2 || bytes.Equal(tickets.keys[0].Key, first.Key) {
					t.Errorf("%d keys after a day, want a second one in front", len(tickets.keys))
				}
			})
		})
	}
}

// A node that starts takes up the keys of all before it does anything else.
func TestTicketKeysAreSharedFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeSharedStorage(t)
		log, _ := newLog()
		one, two := newTickets(store, log), newTickets(store, log)
		one.sync(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		two.run(ctx)
		if !bytes.Equal(one.keys[0].Key, two.keys[0].Key) {
			t.Error("a second after its start a node still has keys of its own")
		}
	})
}

func ticketsOf(s Source) *tickets {
	switch s := s.(type) {
	case *files:
		return s.tickets
	case *selfSigned:
		return s.tickets
	default:
		return s.(*managed).settings.tickets
	}
}

// Nodes that share a store take up each other's sessions, also while a new key
// goes round, and one that has lost the store serves on.
func TestTicketKeysShared(t *testing.T) {
	store := newFakeSharedStorage(t)
	log, buf := newLog()
	one, _ := startSelfSigned(t, "", testHostNames(), time.Now())
	two, _ := startSelfSigned(t, "", testHostNames(), time.Now())
	one.tickets, two.tickets = newTickets(store, log), newTickets(store, log)
	now := time.Now()
	followAt := func(later time.Duration, nodes ...*tickets) {
		t.Helper()
		for _, node := range nodes {
			if err := node.syncKeys(t.Context(), now.Add(later)); err != nil {
				t.Fatal(err)
			}
		}
	}
	followAt(0, one.tickets, two.tickets)
	sessions := tls.NewLRUClientSessionCache(1)
	first, second := ticketServer(t, one.TLSConfig()), ticketServer(t, two.TLSConfig())
	sessionResumed(t, first, sessions)
	if !sessionResumed(t, second, sessions) {
		t.Error("the second node did not take up the session")
	}
	followAt(ticketKeyLifetime, two.tickets) // makes a key that the first has not seen
	if len(two.tickets.keys) != 2 || !sessionResumed(t, second, sessions) || !sessionResumed(t, first, sessions) {
		t.Errorf("with %d keys a session of one node ahead was not taken up", len(two.tickets.keys))
	}
	followAt(ticketKeyLifetime+ticketSyncInterval, one.tickets, two.tickets)
	followAt(ticketKeyLifetime+ticketKeyLead, two.tickets)
	if !sessionResumed(t, second, sessions) || !sessionResumed(t, first, sessions) {
		t.Error("a session under the new key was not taken up by the other node")
	}
	store.unavailable.Store(true)
	one.tickets.sync(t.Context())
	one.tickets.sync(t.Context())
	if !sessionResumed(t, first, sessions) || buf.count("cannot share") != 1 {
		t.Errorf("without the store sessions begin anew, or too much is said:\n%s", buf)
	}
}

// A node whose clock is ahead makes keys that begin in a year. The others neither
// wait for that nor forget what it seals.
func TestTicketKeysWithClockAhead(t *testing.T) {
	store := newFakeSharedStorage(t)
	log, _ := newLog()
	const year = 365 * ticketKeyLifetime
	ahead, accurate := newTickets(store, log), newTickets(store, log)
	now := time.Now()
	for day := range 30 {
		for _, node := range []struct {
			keys  *tickets
			clock time.Duration
		}{{ahead, year}, {accurate, 0}, {ahead, year}} {
			for range 3 {
				if err := node.keys.syncKeys(t.Context(), now.Add(time.Duration(day)*ticketKeyLifetime+node.clock)); err != nil {
					t.Fatal(err)
				}
			}
		}
		at := now.Add(time.Duration(day) * ticketKeyLifetime)
		current := activeKeyIndex(accurate.keys, at.Add(ticketKeyLead))
		if current == len(accurate.keys) || at.Sub(accurate.keys[current].ActiveFrom) >= ticketKeyLifetime {
			t.Fatalf("day %d: of %d keys none is of that day", day, len(accurate.keys))
		}
		sealed := ahead.keys[activeKeyIndex(ahead.keys, at.Add(year))].Key
		if !slices.ContainsFunc(accurate.keys, func(k ticketKey) bool { return bytes.Equal(k.Key, sealed) }) && day > 0 {
			accurate.sync(t.Context())
			if !slices.ContainsFunc(accurate.keys, func(k ticketKey) bool { return bytes.Equal(k.Key, sealed) }) {
				t.Fatalf("day %d: what the node ahead seals cannot be opened", day)
			}
		}
	}
	if len(accurate.keys) > maxTicketKeys {
		t.Errorf("%d keys, want %d at most", len(accurate.keys), maxTicketKeys)
	}
}

// What somebody has spoilt in the store counts as no keys, and is replaced.
func TestCorruptTicketKeys(t *testing.T) {
	for name, text := range map[string]string{"no list": "x", "short": `[{"Key":"AAAA"}]`, "empty": `[]`} {
		store := newFakeSharedStorage(t)
		log, _ := newLog()
		if err := store.Store(t.Context(), ticketStorageKey, []byte(text)); err != nil {
			t.Fatal(err)
		}
		tickets := newTickets(store, log)
		if err := tickets.syncKeys(t.Context(), time.Now()); err != nil || len(tickets.keys) != 1 {
			t.Errorf("%s: got %v and %d keys, want a new one", name, err, len(tickets.keys))
		}
	}
}
