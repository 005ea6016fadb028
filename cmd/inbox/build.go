package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"

	"inbox/cmd/inbox/systemd"
	"inbox/inbox"
	"inbox/inbox/redisstore"
	"inbox/public"
	"inbox/ratelimit"
	"inbox/tlsmgr"

	"github.com/prometheus/client_golang/prometheus"
)

// house is the program, built but not yet serving.
type house struct {
	cfg     *config
	times   times
	log     *slog.Logger
	noise   *serverLog
	archive *archive
	store   *inbox.Memory
	shared  *redisstore.Store // instead of it; nil without -store
	handler *inbox.Handler
	who     *who
	limits  *limits
	source  tlsmgr.Source // nil over plain HTTP
	process process
	doors   doors
	server  *http.Server
	goodbye *http.Server // its Shutdown says goodbye to connections of HTTP/2

	health     health
	meter      *meter                 // nil when nobody reads it
	handshakes handshakes             // of the main listener
	also       []prometheus.Collector // what other parts show in the metrics; added while building

	// tooLarge counts headers beyond -max-header-size.
	tooLarge atomic.Int64
	plain    *http.Server // on port 80; nil without -domain
	notify   *systemd.Notifier
	hangups  <-chan os.Signal
	fresh    fresh         // of the main listener
	loops    []*acceptLoop // of the listeners, for the watchdog
}

// build makes the rooms in order, from the innermost.
func build(c *config, p process, d doors, log *slog.Logger) (*house, error) {
	h := &house{cfg: c, times: p.times, log: log, process: p, doors: d}
	if err := h.furnish(); err != nil {
		h.quitStore()
		return nil, err
	}
	return h, nil
}

func (h *house) furnish() error {
	c := h.cfg
	h.noise = &serverLog{log: h.log}
	h.notify = systemd.NewNotifier(h.process.getenv, h.log)
	dir := stateDir(c, h.process.environ, h.log)
	key, err := c.secret(dir)
	if err != nil {
		return err
	}
	h.who = newWho(&ratelimit.ClientIP{Trusted: c.proxies, Header: c.clientHeader, Logger: h.log}, derive(key, "payers"))
	h.limits = newLimits(c, h.who)
	h.limits.turns.Timeout = h.times.header
	h.buildMeter()
	if len(c.unknown) > 0 {
		h.log.Debug("variables that are no option", "names", c.unknown)
	}
	h.openStore()
	if err := h.buildSource(dir); err != nil {
		return err
	}
	pages, err := h.pages()
	if err != nil {
		return err
	}
	// From here on nothing fails that would have to close the archive.
	if c.store.shared() {
		dir = "" // what this server holds in memory is nothing
	}
	h.archive = openArchive(dir, derive(key, "snapshots"), h.times.stop+stopMargin, h.process.ended, h.log)
	h.also = append(h.also, h.archive)
	h.buildMailboxes(key)
	h.buildServer(pages)
	if err := h.countFrames(); err != nil {
		return err
	}
	h.buildPlain()
	return nil
}

func (h *house) buildMailboxes(key []byte) {
	c := h.cfg
	h.store = h.archive.load(c.mailboxLimits())
	store := inbox.Store(h.store)
	if h.shared != nil {
		store = h.shared
	}
	h.handler = inbox.NewHandler(inbox.Config{
		Store:        store,
		Secret:       key,
		PollTimeout:  c.poll,
		MaxBodyBytes: c.maxBodySize,
		WriteTimeout: h.times.write,
		// The queue, the bodies on their way and the connections may each take
		// a third of the memory.
		MaxInFlightBytes: c.maxQueuedBytes,
		AnyOrigin:        c.cors,
		Origins:          c.origins,
		ICEServers:       c.ice,
		Alive:            alive,
		Payer:            h.who.payer,
		OnWait:           h.meter.hold(),
		Guard:            h.limits.guard,
		Logger:           h.log,
	})
}

func (c *config) mailboxLimits() inbox.Limits {
	return inbox.Limits{
		Timeout:                seconds(c.inboxTimeout),
		Capacity:               int(c.inboxCapacity),
		MaxInboxes:             int(c.maxInboxes),
		MaxQueuedBytes:         c.maxQueuedBytes,
		MaxInboxesPerPayer:     int(c.maxInboxesPerIP),
		MaxQueuedBytesPerPayer: c.maxQueuedBytesPerIP,
	}
}

func (h *house) buildSource(dir string) (err error) {
	if !h.cfg.https {
		return nil
	}
	config := h.cfg.certificateSource(dir, h.doors, h.log)
	if config.Shared = h.cfg.sharedCertificates(h.shared); config.Shared != nil {
		awaitReady(h.shared)
	}
	h.source, err = tlsmgr.New(config)
	if err == nil && h.selfSigned() != "" && h.cfg.from["server-cert"]+h.cfg.from["server-key"] != "" {
		h.log.Warn("the files of -server-cert and -server-key do not exist, so a self-signed certificate serves")
	}
	return err
}

// certificateSource says where certificates come from, and how an authority
// reaches the doors that are open.
func (c *config) certificateSource(dir string, d doors, log *slog.Logger) tlsmgr.Config {
	a := c.acme
	return tlsmgr.Config{
		CertFile: c.serverCert, KeyFile: c.serverKey, StateDir: dir, Logger: log, Domains: c.domains,
		ACME: tlsmgr.ACME{
			Engine: a.engine, Email: c.email, Agreed: a.agree,
			CA: a.ca.authority(), FallbackCA: a.second.authority(),
			Staging: a.staging, StagingFirst: a.stagingFirst, Profile: a.profile, WaitForAddress: a.preflight,
			ListenHost: hostOf(d.main), TLSPort: portOf(d.main), HTTPPort: portOf(d.plain),
			NoHTTP: d.plain == nil || a.challenge == "tls-alpn-01", NoTLS: a.challenge == "http-01",
		},
	}
}

func (o authorityOptions) authority() tlsmgr.CA {
	return tlsmgr.CA{URL: o.url, RootsFile: o.root, EABKeyID: o.keyID, EABKeyFile: o.keyFile}
}

// selfSigned is the fingerprint of a self-signed certificate that serves, else empty.
func (h *house) selfSigned() string {
	if h.source == nil {
		return ""
	}
	state := h.source.State()[0] // a certificate is for one name at least
	if state.Source != "self-signed" || len(h.cfg.domains) > 0 {
		return ""
	}
	return state.Fingerprint
}

// pages chooses between the built-in pages and a directory.
func (h *house) pages() (http.Handler, error) {
	dir := h.cfg.public
	if h.cfg.from["public"] == "" && !isPages(dir) || dir == "" {
		h.log.Info("pages", "from", "built in")
		return public.Embedded(), nil
	}
	pages, err := public.Dir(dir)
	if err != nil {
		return nil, fmt.Errorf("serve the pages of -public: %w", err)
	}
	h.log.Info("pages", "from", dir)
	return pages, nil
}

// isPages is true for a directory, unless it is the source of the built-in
// pages: in a clone of this repository those are meant, with their policy.
func isPages(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return false
	}
	_, err = os.Stat(filepath.Join(dir, "public.go"))
	return err != nil
}

// route finds the room for a path. There are few: a table would cost more.
func (h *house) route(pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.health.serving.Load() {
			w.Header().Set("Connection", "close") // over HTTP/2, too, it means to go
		}
		switch r.URL.Path {
		case "/inbox", "/ice":
			h.handler.ServeHTTP(w, r)
		case "/healthz":
			healthz(w, r)
		case "/readyz":
			h.health.readyz(w, r)
		default:
			pages.ServeHTTP(w, r)
		}
	})
}

// readableElsewhere lets the pages of allowed origins read refusals that come
// before the mailbox handler.
func (h *house) readableElsewhere(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/inbox" || r.URL.Path == "/ice" {
			h.handler.AllowOrigin(w, r)
		}
		next.ServeHTTP(w, r)
	})
}

func (h *house) buildServer(pages http.Handler) {
	chain := limitHeader(h.cfg.maxHeaderSize, &h.tooLarge, h.limits.held.Handler(h.route(pages)))
	if len(h.cfg.domains) > 0 {
		chain = tlsmgr.CheckHost(h.cfg.domains, isHealth, chain)
	}
	chain = h.readableElsewhere(h.limits.requests.Handler(chain))
	if len(h.cfg.domains) > 0 {
		chain = tlsmgr.HSTS(h.source, chain)
	}
	chain = limitBody(h.times.body, h.limits.active.Handler(chain))
	idle := h.times.idle
	if h.source != nil { // a proxy, which keeps connections for longer, seldom speaks TLS to us
		idle = min(idle, idleTLS)
		chain = lingerHTTP2(idle, chain)
	}
	chain = h.meter.handler(routeOf, chain)
	h.server = &http.Server{
		Handler:           chain,
		ConnContext:       withPeer,
		ConnState:         h.fresh.note,
		ErrorLog:          h.noise.logger(),
		ReadHeaderTimeout: h.times.header, // and for the TLS handshake
		IdleTimeout:       idle,
		// It counts from the end of the header: a body, then a wait, then the answer.
		WriteTimeout:   h.times.body + h.cfg.poll + h.times.write,
		MaxHeaderBytes: int(h.cfg.maxHeaderSize),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 100,
			// What a client may send before anybody reads it, as with a held
			// poll: the default of 1 MiB for each connection is a hole.
			MaxReceiveBufferPerConnection: 64 << 10,
			MaxReceiveBufferPerStream:     64 << 10,
			SendPingTimeout:               h.times.header, // finds those who left without a word, or send a header for ever
			PingTimeout:                   h.times.header / 2,
			WriteByteTimeout:              h.times.write,
		},
	}
	// Else net/http answers OPTIONS * itself, which costs no token.
	h.server.DisableGeneralOptionsHandler = true
}

// buildPlain makes the server on port 80. The authority's challenges cost no
// token; everything else does.
func (h *house) buildPlain() {
	if h.doors.plain == nil {
		return
	}
	redirect := tlsmgr.Redirect(h.cfg.domains, portOf(h.doors.main))
	chain := limitBody(h.times.body, h.source.HTTPHandler(h.limits.requests.Handler(redirect)))
	chain = h.meter.handler(func(*http.Request) route { return routePlain }, chain)
	h.plain = &http.Server{
		Handler:           chain,
		ConnContext:       withPeer,
		ErrorLog:          h.noise.logger(),
		ReadHeaderTimeout: h.times.header,
		IdleTimeout:       h.times.idle,
		WriteTimeout:      h.times.body + h.times.write,
		MaxHeaderBytes:    int(h.cfg.maxHeaderSize),
	}
	h.plain.DisableGeneralOptionsHandler = true
}
