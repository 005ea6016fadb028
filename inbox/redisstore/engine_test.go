//go:build linux

package redisstore

import (
	"net"
	"regexp"
	"strings"
	"testing"
)

// What INFO of several engines says, and which of them are refused.
func TestEngines(t *testing.T) {
	for _, c := range []struct {
		info   map[string]string
		want   engine
		tooOld bool
	}{
		{map[string]string{"redis_version": "5.0.7"}, engine{"Redis", "5.0.7"}, true},
		{map[string]string{"redis_version": "6.0.16"}, engine{"Redis", "6.0.16"}, false},
		{map[string]string{"redis_version": "10.0.0"}, engine{"Redis", "10.0.0"}, false},
		{map[string]string{"redis_version": "7.2.4", "valkey_version": "9.1.2"}, engine{"Valkey", "9.1.2"}, false},
		{map[string]string{"redis_version": "2.8.0", "valkey_version": "1.0.0"}, engine{"Valkey", "1.0.0"}, false},
		{nil, engine{"Redis", ""}, false},
	} {
		if got := engineOf(c.info); got != c.want || got.tooOld() != c.tooOld {
			t.Errorf("%v: got %+v, too old %v, want %+v, %v", c.info, got, got.tooOld(), c.want, c.tooOld)
		}
	}
}

// A server too old is not used, and the log says why, once.
func TestOldStoreIsRefused(t *testing.T) {
	t.Parallel()
	url := "redis://" + aged(t, startServer(t))
	var log logged
	s := startStore(t, url, Config{Logger: log.logger()})
	const why = "it is Redis 5."
	eventually(t, "the log tells why", func() bool { return strings.Contains(log.String(), why) })
	if s.Ready() == nil {
		t.Error("got ready, want it not to be")
	}
	if n := strings.Count(log.String(), why); n != 1 || !strings.Contains(log.String(), "use Redis 6.0 or newer, or Valkey") {
		t.Errorf("got it %d times, want one mend:\n%s", n, log.String())
	}
	if r, err := examine(t, url, nil); err != nil || len(r.Servers) != 1 || !r.Servers[0].TooOld {
		t.Errorf("got %+v, %v, want one server that is too old", r, err)
	}
}

var modern = regexp.MustCompile(`redis_version:\d|valkey_v`)

// aged is a way to a server that makes it say of itself that it is Redis 5.
func aged(t *testing.T, s *server) (addr string) {
	t.Helper()
	return between(t, s, func(to, from net.Conn) {
		pass(to, from, func(b []byte) []byte {
			return modern.ReplaceAllFunc(b, func(name []byte) []byte {
				name[len(name)-1] = '5'
				return name
			})
		})
	})
}

// between is a way to a server on which carry has each connection, once in either
// direction, until it closes.
func between(t *testing.T, s *server, carry func(to, from net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", s.addr())
			if err != nil {
				client.Close()
				continue
			}
			go carry(server, client)
			go carry(client, server)
		}
	}()
	return l.Addr().String()
}

// pass copies until either end closes, through change, which keeps lengths.
func pass(to, from net.Conn, change func([]byte) []byte) {
	defer to.Close()
	for b := make([]byte, 64<<10); ; {
		n, err := from.Read(b)
		if _, failed := to.Write(change(b[:n])); err != nil || failed != nil {
			return
		}
	}
}
