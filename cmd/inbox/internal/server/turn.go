package server

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/host"
	"inbox/cmd/inbox/internal/limits"
	"inbox/cmd/inbox/internal/metrics"
	"inbox/cmd/inbox/internal/relaynodes"
	"inbox/cmd/inbox/internal/state"
	"inbox/inbox"
	"inbox/inbox/ice"
	"inbox/internal/atomicfile"
	"inbox/internal/netconn"
	"inbox/internal/privatefile"
	"inbox/tlsmgr/acme"
	"inbox/turn"
)

const (
	// ledgerFile is the file of the month's traffic in the state directory.
	ledgerFile     = "turn-month"
	maxLedgerBytes = 1 << 20
	// revokedFile is the file of the revoked credentials.
	revokedFile = "turn-revoked"
	// ledgerInterval is how much of the ledger a crash loses at most.
	ledgerInterval = time.Minute
	// revokedDelay is how long revocations wait for others, to be saved together.
	revokedDelay = time.Second

	// monthUsed is what GET /ice says instead of a TURN server.
	monthUsed = "month-used"
)

// relay has the TURN server, or the credentials of that of another node, and hands them out.
type relay struct {
	cfg     *config.TURN
	issuer  *turn.Issuer
	server  *turn.Server                // nil: another node is the relay
	nodes   *relaynodes.Nodes           // nil without a store
	socket  atomic.Pointer[net.UDPConn] // nil: no UDP, or not yet
	ofOther int                         // UDP port of the relay, if it is another node
	noTLS   string                      // why clients cannot reach it over TLS; empty if they can
	ledger  string                      // path of the ledger; empty is none
	revoked string                      // path of the revocations; empty is none
	payer   func(*http.Request) inbox.Payer
	client  func(*http.Request) netip.Addr
	onLocal func(*http.Request) // a remote client requests a local host
	log     *slog.Logger

	saved         []byte // ledger
	saveFailed    bool
	warnedOfMonth bool
	closing       sync.Once

	revocation       chan struct{} // has room for one: there are unsaved revocations
	savedRevoked     []byte
	saveRevokedFails bool
}

// relayParts is what a relay needs of the other parts.
type relayParts struct {
	secret     []byte // of the state directory, or of the nodes of a store
	stateDir   string
	socket     *net.UDPConn
	selfSigned bool // the certificate
	nodes      *relaynodes.Nodes
	limits     *limits.Limits
	payer      func(*http.Request) inbox.Payer
	client     func(*http.Request) netip.Addr
	onLocal    func(*http.Request) // a remote client requests a local host
}

// openRelay returns the relay. It must be closed.
func openRelay(cfg *config.TURN, p relayParts, log *slog.Logger) (*relay, error) {
	secret := state.DeriveKey(p.secret, "turn")
	issuer, err := turn.NewIssuer(secret)
	if err != nil {
		return nil, err
	}
	r := &relay{
		cfg: cfg, issuer: issuer, nodes: p.nodes, payer: p.payer, client: p.client, onLocal: p.onLocal, log: log,
		noTLS: cfg.NoTLS,
	}
	r.socket.Store(p.socket)
	if r.noTLS == "" && p.selfSigned {
		r.noTLS = "the certificate is self-signed"
	}
	r.revocation = make(chan struct{}, 1)
	if !cfg.Relay {
		_, port, _ := net.SplitHostPort(cfg.Bind.Value)
		r.ofOther, err = net.LookupPort("udp", port)
		return r, err
	}
	if p.stateDir != "" {
		r.ledger = filepath.Join(p.stateDir, ledgerFile)
		r.revoked = filepath.Join(p.stateDir, revokedFile)
	}
	r.server, err = turn.New(turn.Config{
		Secret: secret, RateBits: cfg.RateBits, MonthBytes: cfg.MonthBytes, Ledger: r.loadLedger(),
		Revocations: r.loadRevoked(),
		Allocations: p.limits.TURN.Allocations, Logger: log,
		AllowUnauthenticated: p.limits.TURN.AllowAnswer, AllowProven: p.limits.TURN.AllowProven,
	})
	return r, err
}

// loadLedger returns the stored ledger, or nil.
func (r *relay) loadLedger() []byte {
	if r.ledger == "" {
		return nil
	}
	ledger, err := privatefile.Read(r.ledger, maxLedgerBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.log.Warn("the month's traffic of the relay starts at zero: cannot read the ledger", "err", err)
	}
	return ledger
}

// loadRevoked returns the stored revocations, or nil.
func (r *relay) loadRevoked() []byte {
	if r.revoked == "" {
		return nil
	}
	revoked, err := privatefile.Read(r.revoked, int64(turn.MaxRevocationsBytes))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.log.Warn("credentials of the relay that were revoked are valid again until they expire", "err", err)
	}
	return revoked
}

// saveRevoked saves the revocations if they changed. It is called by one goroutine at a time.
func (r *relay) saveRevoked() {
	revoked := r.server.Revocations()
	if r.revoked == "" || bytes.Equal(revoked, r.savedRevoked) {
		return
	}
	err := atomicfile.Write(r.revoked, revoked)
	if err == nil {
		r.savedRevoked = revoked
	} else if !r.saveRevokedFails {
		r.log.Error("save the revoked credentials of the relay", "err", err)
	}
	r.saveRevokedFails = err != nil
}

// saveLedger saves the ledger if it changed. It is called by one goroutine at a time.
func (r *relay) saveLedger() {
	ledger := r.server.Ledger()
	if r.ledger == "" || bytes.Equal(ledger, r.saved) {
		return
	}
	err := atomicfile.Write(r.ledger, ledger)
	if err == nil {
		r.saved = ledger
	} else if !r.saveFailed {
		r.log.Error("save the month's traffic of the relay", "err", err)
	}
	r.saveFailed = err != nil // log a full disk once, not every minute
}

// run serves UDP, saves the ledger and exchanges state with other nodes until ctx is done.
func (r *relay) run(ctx context.Context) {
	var background sync.WaitGroup
	defer background.Wait()
	if r.nodes != nil {
		background.Go(func() { r.nodes.Run(ctx, r.server) })
	}
	if r.server == nil {
		return
	}
	defer r.close()
	background.Go(func() { r.serveUDP(ctx) })
	ticker := time.NewTicker(ledgerInterval)
	defer ticker.Stop()
	var revokedDue <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.revocation:
			if revokedDue == nil {
				revokedDue = time.After(revokedDelay)
			}
		case <-revokedDue:
			revokedDue = nil
			r.saveRevoked()
		case <-ticker.C:
			r.saveLedger()
			r.saveRevoked()
			r.warnOfMonth()
		}
	}
}

// warnOfMonth logs once that the month's traffic is used up.
func (r *relay) warnOfMonth() {
	used, warned := r.server.MonthUsed(), r.warnedOfMonth
	if r.warnedOfMonth = used; !used || warned {
		return
	}
	r.log.Warn("the month's traffic of the relay is used up: calls get no relay until the next month (UTC); see -turn-month",
		"bytes", r.cfg.MonthBytes)
}

// serveUDP serves the UDP socket until the server is closed. Without one it first waits for
// the default port, until ctx is done.
func (r *relay) serveUDP(ctx context.Context) {
	if r.socket.Load() == nil {
		r.socket.Store(awaitTURNPort(ctx, r.cfg, r.log))
	}
	if socket := r.socket.Load(); socket != nil {
		if err := r.server.ServeUDP(socket); err != nil {
			r.log.Error("serve TURN over UDP", "err", err)
		}
	}
}

// udpPort returns the UDP port for the URLs; zero is none.
func (r *relay) udpPort() int {
	if socket := r.socket.Load(); socket != nil {
		return socket.LocalAddr().(*net.UDPAddr).Port
	}
	return r.ofOther
}

// socketState returns the state of the UDP socket; nothing is known without one.
func (r *relay) socketState() (s metrics.TURNSocket) {
	if socket := r.socket.Load(); socket != nil {
		s.BufferBytes = host.ReceiveBuffer(socket)
		s.Dropped, s.DropsKnown = host.UDPDrops(socket)
	}
	return s
}

// close ends all allocations and saves the ledger. A second call has no effect.
func (r *relay) close() {
	r.closing.Do(func() {
		if r.server == nil {
			return
		}
		if err := r.server.Close(); err != nil {
			r.log.Debug("close TURN", "err", err)
		}
		r.saveLedger()
		r.saveRevoked()
	})
}

// serveConn serves a connection of TURN over TLS.
func (r *relay) serveConn(c net.Conn) {
	netconn.Hijacked(c)
	r.server.ServeConn(c)
}

// servers returns the ICE servers for a request, as [inbox.Config.TURN].
func (r *relay) servers(req *http.Request, owner string) (servers []ice.Server, withheld string) {
	host, port, ok := requestHost(req)
	if r.cfg.Host != "" {
		host = r.cfg.Host
	} else if !ok {
		return nil, ""
	} else if isPrivateHost(host) && isRemote(r.client(req)) {
		r.onLocal(req)
		return nil, ""
	}
	udpPort := r.udpPort()
	udp := net.JoinHostPort(host, strconv.Itoa(udpPort))
	var urls []string
	if udpPort > 0 {
		servers = append(servers, ice.Server{URLs: []string{"stun:" + udp}})
		urls = append(urls, "turn:"+udp+"?transport=udp")
	}
	if _, err := netip.ParseAddr(host); err != nil && r.noTLS == "" { // browsers refuse TLS at an address
		urls = append(urls, "turns:"+net.JoinHostPort(host, port)+"?transport=tcp")
	}
	switch {
	case owner == "" || len(urls) == 0:
		return servers, ""
	case r.monthUsed():
		return servers, monthUsed
	}
	c := r.issuer.Issue(owner, turn.Payer(r.payer(req)))
	return append(servers, ice.Server{URLs: urls, Username: c.Username, Credential: c.Password}), ""
}

func (r *relay) monthUsed() bool {
	if r.server == nil {
		return r.nodes.MonthUsed()
	}
	return r.server.MonthUsed()
}

// ownerDeleted ends the allocations of an owner, as [inbox.Config.OnDelete].
func (r *relay) ownerDeleted(owner string) {
	if r.server == nil {
		r.nodes.Revoke(r.issuer.OwnerID(owner))
		return
	}
	r.server.Revoke(owner)
	r.revocationAdded()
}

// revocationAdded lets run save the revocations soon.
func (r *relay) revocationAdded() {
	select {
	case r.revocation <- struct{}{}:
	default: // the save to come has it
	}
}

// claimEnded ends the credentials of an owner whose invitation has ended, and leaves the calls that
// run.
func (r *relay) claimEnded(owner string) {
	if r.server == nil {
		r.nodes.RevokeCredentials(r.issuer.OwnerID(owner))
		return
	}
	r.server.RevokeCredentials(owner)
	r.revocationAdded()
}

// isPrivateHost reports whether a host, as [requestHost] returns it, leads to this machine or a
// private network only.
func isPrivateHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host == "localhost" || strings.HasSuffix(host, ".localhost") // RFC 6761, section 6.3
	}
	return addr.IsUnspecified() || !isRemote(addr)
}

// sharedAddresses are those of carriers and of some VPNs (RFC 6598).
var sharedAddresses = netip.MustParsePrefix("100.64.0.0/10")

// isRemote reports whether an address can be in any network: a client that has one does not
// reach a private address.
func isRemote(addr netip.Addr) bool {
	addr = addr.Unmap()
	return addr.IsGlobalUnicast() && !addr.IsPrivate() && !sharedAddresses.Contains(addr)
}

// requestHost returns the host of a request in canonical form, and its port, 443 if it names
// none.
func requestHost(r *http.Request) (host, port string, ok bool) {
	u, err := url.Parse("//" + r.Host)
	if err != nil || u.Host != r.Host {
		return "", "443", false
	}
	if port = u.Port(); port == "" {
		port = "443"
	}
	names, err := acme.Names([]string{u.Hostname()})
	if err != nil {
		return "", "443", false
	}
	if _, err := ice.Parse("stun:" + net.JoinHostPort(names[0], port)); err != nil { // as browsers do
		return "", "443", false
	}
	return names[0], port, true
}
