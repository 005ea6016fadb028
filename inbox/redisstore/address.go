package redisstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

const (
	redisPort    = "6379"
	sentinelPort = "26379"
	// dialTimeout bounds one attempt to connect, TLS and greeting included.
	dialTimeout = time.Second
	// maxHosts bounds a list of hosts: a few are enough to find the others.
	maxHosts = 64
)

// Address says where a store is, and how to be let in. Make one with
// [ParseAddress]; it holds a password.
type Address struct {
	tls      bool
	roots    *x509.CertPool // nil for the system's
	master   string         // of Sentinel
	hosts    []string
	user     *url.Userinfo
	database int
}

// ParseAddress reads one of
//
//	redis://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/DATABASE]
//	redis-sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]/MASTER[/DATABASE]
//
// and the same with rediss and rediss-sentinel, over TLS. Whether the first is
// one server or a cluster shows itself; several hosts are nodes of one cluster.
// User and password are for the store and for Sentinel. An error repeats
// nothing of the address: it holds a secret.
func ParseAddress(text string) (a Address, err error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return a, errors.New("must begin with redis://, rediss://, redis-sentinel:// or rediss-sentinel://")
	}
	sentinel, port := false, redisPort
	switch scheme {
	case "redis", "rediss":
	case "redis-sentinel", "rediss-sentinel":
		sentinel, port = true, sentinelPort
	default:
		return a, errors.New("must begin with redis://, rediss://, redis-sentinel:// or rediss-sentinel://")
	}
	a.tls = strings.HasPrefix(scheme, "rediss")
	authority, path, _ := strings.Cut(rest, "/")
	if strings.Contains(path, "@") { // or a part of the password would be taken for a host, and shown
		return a, errors.New("has an @ behind the first slash; in a password write %2F for a slash")
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if a.user, err = userinfo(authority[:at]); err != nil {
			return a, err
		}
		authority = authority[at+1:]
	}
	for host := range strings.SplitSeq(authority, ",") {
		if host, err = withPort(host, port); err != nil {
			return a, err
		}
		a.hosts = append(a.hosts, host)
	}
	if len(a.hosts) > maxHosts {
		return a, fmt.Errorf("names more than %d hosts", maxHosts)
	}
	return a, a.parsePath(path, sentinel)
}

func userinfo(text string) (*url.Userinfo, error) {
	u, err := url.Parse("redis://" + text + "@host")
	if err != nil || u.User == nil {
		return nil, errors.New("has a user or password with characters that must be percent-encoded")
	}
	return u.User, nil
}

func withPort(host, port string) (string, error) {
	h, p, err := net.SplitHostPort(host)
	if err != nil {
		h, p = strings.Trim(host, "[]"), port
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 || h == "" || strings.ContainsAny(h, "/?#[]@ ") {
		return "", errors.New("has a host that is no HOST:PORT; write 192.0.2.1:6379, [2001:db8::1]:6379 or redis.example.org:6379")
	}
	return net.JoinHostPort(h, p), nil
}

// parsePath reads what stands behind the hosts: the master's name, the number
// of the database.
func (a *Address) parsePath(path string, sentinel bool) error {
	if sentinel {
		a.master, path, _ = strings.Cut(path, "/")
		if a.master == "" {
			return errors.New("must name the master behind the hosts, as in redis-sentinel://host/mymaster")
		}
	}
	if path == "" {
		return nil
	}
	n, err := strconv.ParseUint(path, 10, 16)
	if err != nil {
		return errors.New("must end with the number of a database, as in redis://host/0, or without one")
	}
	if n > 0 && len(a.hosts) > 1 && !sentinel {
		return errors.New("names a database, which a cluster does not have")
	}
	a.database = int(n)
	return nil
}

// TLS is whether the connection is encrypted.
func (a Address) TLS() bool { return a.tls }

// Trust makes the certificates in text, PEM, those that the store's is trusted
// by, instead of the system's. It is false when there are none.
func (a *Address) Trust(text []byte) bool {
	a.roots = x509.NewCertPool()
	return a.roots.AppendCertsFromPEM(text)
}

// String is the address without user and password.
func (a Address) String() string {
	text := "redis"
	if a.tls {
		text += "s"
	}
	if a.master != "" {
		text += "-sentinel"
	}
	text += "://" + strings.Join(a.hosts, ",")
	if a.master != "" {
		text += "/" + a.master
	}
	return text
}

// clientOption is what the client is made with. It never repeats a step by itself: one
// whose answer was lost may have been taken.
func (a Address) clientOption() rueidis.ClientOption {
	o := rueidis.ClientOption{
		InitAddress:  a.hosts,
		SelectDB:     a.database,
		ClientName:   "inbox",
		Dialer:       net.Dialer{Timeout: dialTimeout, KeepAlive: time.Second},
		DisableRetry: true, DisableCache: true,
		ConnWriteTimeout:   2 * callTimeout, // also how long a silent connection is trusted
		ReadBufferEachConn: 64 << 10, WriteBufferEachConn: 64 << 10,
	}
	if a.user != nil {
		o.Username = a.user.Username()
		o.Password, _ = a.user.Password()
	}
	if a.tls {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: a.roots}
	}
	if a.master != "" {
		o.Sentinel = rueidis.SentinelOption{MasterSet: a.master, Dialer: o.Dialer, TLSConfig: o.TLSConfig, Username: o.Username, Password: o.Password, ClientName: "inbox"}
	}
	return o
}
