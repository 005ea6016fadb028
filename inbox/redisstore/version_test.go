//go:build linux

package redisstore

import (
	"net"
	"regexp"
	"strings"
	"testing"
)

// INFO replies of several engines, and which versions are rejected.
func TestProducts(t *testing.T) {
	for _, c := range []struct {
		info   map[string]string
		want   product
		tooOld bool
	}{
		{map[string]string{"redis_version": "5.0.7"}, product{"Redis", "5.0.7"}, true},
		{map[string]string{"redis_version": "6.0.16"}, product{"Redis", "6.0.16"}, false},
		{map[string]string{"redis_version": "10.0.0"}, product{"Redis", "10.0.0"}, false},
		{map[string]string{"redis_version": "7.2.4", "valkey_version": "9.1.2"}, product{"Valkey", "9.1.2"}, false},
		{map[string]string{"redis_version": "2.8.0", "valkey_version": "1.0.0"}, product{"Valkey", "1.0.0"}, false},
		{nil, product{"Redis", ""}, false},
	} {
		if got := productOf(c.info); got != c.want || got.tooOld() != c.tooOld {
			t.Errorf("%v: got %+v, too old %v, want %+v, %v", c.info, got, got.tooOld(), c.want, c.tooOld)
		}
	}
}

// An unsupported server is not used, and the log contains the reason once.
func TestOldStoreIsRejected(t *testing.T) {
	t.Parallel()
	url := "redis://" + proxyAsRedis5(t, startServer(t))
	var log logBuffer
	s := startStore(t, url, Config{Logger: log.logger()})
	const reason = "Redis 5."
	eventually(t, "the log contains the reason", func() bool { return strings.Contains(log.String(), reason) })
	if s.Ready() == nil {
		t.Error("got a ready store, want it unavailable")
	}
	if n := strings.Count(log.String(), reason); n != 1 || !strings.Contains(log.String(), "use Redis 6.0 or newer, or Valkey") {
		t.Errorf("got the error %d times in the log, want once with a fix:\n%s", n, log.String())
	}
	if r, err := examine(t, url, nil); err != nil || len(r.Servers) != 1 || !r.Servers[0].TooOld {
		t.Errorf("got %+v, %v, want one server with TooOld", r, err)
	}
}

var versionLine = regexp.MustCompile(`redis_version:\d|valkey_v`)

// proxyAsRedis5 returns the address of a proxy that changes the version in INFO to
// Redis 5.
func proxyAsRedis5(t *testing.T, s *server) (addr string) {
	t.Helper()
	return proxyTo(t, s, func(to, from net.Conn) {
		copyThrough(to, from, func(b []byte) []byte {
			return versionLine.ReplaceAllFunc(b, func(name []byte) []byte {
				name[len(name)-1] = '5'
				return name
			})
		})
	})
}

// proxyTo returns the address of a proxy to s that calls carry for each direction of
// each connection.
func proxyTo(t *testing.T, s *server, carry func(to, from net.Conn)) (addr string) {
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

// copyThrough copies through change, which must keep lengths, until either end closes.
func copyThrough(to, from net.Conn, change func([]byte) []byte) {
	defer to.Close()
	for b := make([]byte, 64<<10); ; {
		n, err := from.Read(b)
		if _, failed := to.Write(change(b[:n])); err != nil || failed != nil {
			return
		}
	}
}
