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
	// dialTimeout bounds one connection attempt, including the TLS handshake and
	// authentication.
	dialTimeout = time.Second
	// maxHosts bounds a list of hosts. A few are enough: the client discovers the
	// others.
	maxHosts = 64
)

// Address is the address of a store with its credentials. It contains a password;
// [Address.String] omits it. Make one with [ParseAddress].
type Address struct {
	tls      bool
	roots    *x509.CertPool // nil: the system's roots
	master   string         // name of the master set; empty without Sentinel
	hosts    []string
	user     *url.Userinfo
	database int
}

// ParseAddress parses one of
//
//	redis://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/DATABASE]
//	redis-sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]/MASTER[/DATABASE]
//
// and the same with rediss and rediss-sentinel for TLS. The first form is a single
// server or a cluster, which is detected when connecting; several hosts are nodes of
// one cluster. User and password apply to the store and to Sentinel. An error repeats
// no part of the address, because the address contains a secret.
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
	if strings.Contains(path, "@") { // else a part of the password would be parsed as a host, and logged
		return a, errors.New("has an @ after the first slash; write a slash in a password as %2F")
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
		return a, fmt.Errorf("has more than %d hosts", maxHosts)
	}
	return a, a.parsePath(path, sentinel)
}

func userinfo(text string) (*url.Userinfo, error) {
	u, err := url.Parse("redis://" + text + "@host")
	if err != nil || u.User == nil {
		return nil, errors.New("has characters in its user or password that must be percent-encoded")
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
		return "", errors.New("has an invalid HOST:PORT; " +
			"examples: 192.0.2.1:6379, [2001:db8::1]:6379, redis.example.org:6379")
	}
	return net.JoinHostPort(h, p), nil
}

// parsePath parses the part after the hosts: the name of the master, if sentinel is
// set, and the database number.
func (a *Address) parsePath(path string, sentinel bool) error {
	if sentinel {
		a.master, path, _ = strings.Cut(path, "/")
		if a.master == "" {
			return errors.New("must name the master after the hosts, as in redis-sentinel://host/mymaster")
		}
	}
	if path == "" {
		return nil
	}
	n, err := strconv.ParseUint(path, 10, 16)
	if err != nil {
		return errors.New("must end with a database number, as in redis://host/0, or with the host")
	}
	if n > 0 && len(a.hosts) > 1 && !sentinel {
		return errors.New("selects a database, which a cluster does not support")
	}
	a.database = int(n)
	return nil
}

// TLS reports whether connections use TLS.
func (a Address) TLS() bool { return a.tls }

// Trust makes the PEM certificates in text the only roots for the store's certificate,
// in place of the system's. It returns false if text contains no certificate.
func (a *Address) Trust(text []byte) bool {
	a.roots = x509.NewCertPool()
	return a.roots.AppendCertsFromPEM(text)
}

// String returns the address without user and password.
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

// clientOption returns the options of the client. Retries are disabled: the store can
// have executed a step whose reply was lost.
func (a Address) clientOption() rueidis.ClientOption {
	o := rueidis.ClientOption{
		InitAddress:  a.hosts,
		SelectDB:     a.database,
		ClientName:   "inbox",
		Dialer:       net.Dialer{Timeout: dialTimeout, KeepAlive: time.Second},
		DisableRetry: true, DisableCache: true,
		ConnWriteTimeout:   2 * callTimeout, // also the deadline of the client's periodic PING
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
		o.Sentinel = rueidis.SentinelOption{
			MasterSet: a.master, Dialer: o.Dialer, TLSConfig: o.TLSConfig,
			Username: o.Username, Password: o.Password, ClientName: o.ClientName,
		}
	}
	return o
}
