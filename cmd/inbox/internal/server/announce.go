package server

import (
	"io"
	"net/netip"
)

// announce prints the banner and logs the addresses of the listeners.
func (s *server) announce() {
	b := banner{
		site: newSite(s.cfg, s.main.socket, s.process), network: networkAddrs(),
		fingerprint: selfSignedFingerprint(s.cfg, s.certs), isService: s.process.Getenv("NOTIFY_SOCKET") != "",
	}
	if s.process.Getenv("TERM") != "dumb" {
		b.columns = s.process.Columns
	}
	relay := s.relayOffer()
	b.relay = relay.String()
	if b.addr.IsValid() { // otherwise a Unix socket, which browsers cannot open
		s.warnPlainHTTP(b.addr.Addr())
		if !s.cfg.LogJSON {
			io.WriteString(s.process.Stderr, b.String())
		}
	}
	s.warnBurst()
	s.warnFiles()
	if s.admin != nil {
		s.log.Info("metrics", "addr", s.admin.socket.Addr().String())
	}
	relay.log(s.log)
	s.log.Info("listening", "addr", s.main.socket.Addr().String(), "scheme", b.scheme)
}

// warnPlainHTTP warns that passwords are sent in clear text, unless a trusted proxy is
// configured or only this machine can connect.
func (s *server) warnPlainHTTP(addr netip.Addr) {
	if s.certs == nil && !addr.IsLoopback() && len(s.cfg.TrustedProxies) == 0 {
		s.log.Warn("plain HTTP: passwords and messages are sent unencrypted; if a proxy terminates TLS, set " +
			"-trusted-proxies")
	}
}

// pageBurst is the number of requests of one page load, with its modules and first poll,
// plus a reserve.
const pageBurst = 24

// warnBurst warns of a burst that is too low for a page load.
func (s *server) warnBurst() {
	if s.cfg.Rate > 0 && s.cfg.Burst < pageBurst && !s.cfg.DryRun {
		s.log.Warn("-burst is too low for a page load: a browser's first requests are rejected and retried; "+
			"increase -burst, or disable the limit with -rate 0",
			"burst", s.cfg.Burst, "atLeast", pageBurst)
	}
}

// warnFiles warns of a limit of open files that is too low.
func (s *server) warnFiles() {
	if s.cfg.FewFiles() {
		s.log.Warn("the limit of open files allows few connections: raise it with LimitNOFILE= of the service or ulimit -n",
			"files", s.cfg.Files.Limit, "connections", min(int64(s.cfg.MaxConns), s.cfg.Files.Conns))
	}
}
