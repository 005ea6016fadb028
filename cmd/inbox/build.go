package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"inbox/inbox"
	"inbox/public"
	"inbox/ratelimit"
	"inbox/tlsmgr"
)

// house is the program, built but not yet serving.
type house struct {
	cfg     *config
	times   times
	log     *slog.Logger
	noise   *serverLog
	store   *inbox.Memory
	handler *inbox.Handler
	who     *who
	limits  *limits
	source  tlsmgr.Source // nil over plain HTTP
	server  *http.Server
}

// build makes the rooms in order, from the innermost.
func build(c *config, p process) (*house, error) {
	h := &house{cfg: c, times: p.times, log: newLogger(c, p.stderr)}
	h.noise = &serverLog{log: h.log}
	h.who = newWho(&ratelimit.Clients{Trusted: c.proxies, Header: c.clientHeader, Logger: h.log})
	h.limits = newLimits(c, h.who)
	if len(c.unknown) > 0 {
		h.log.Debug("variables that are no option", "names", c.unknown)
	}
	dir := stateDir(c, p.environ, h.log)
	if err := h.buildMailboxes(dir); err != nil {
		return nil, err
	}
	if err := h.buildSource(dir); err != nil {
		return nil, err
	}
	pages, err := h.pages()
	if err != nil {
		return nil, err
	}
	h.buildServer(pages)
	return h, nil
}

func (h *house) buildMailboxes(dir string) error {
	key, err := secret(dir)
	if err != nil {
		return err
	}
	c := h.cfg
	h.store = inbox.NewMemory(inbox.Limits{
		Timeout:                seconds(c.inboxTimeout),
		Capacity:               int(c.inboxCapacity),
		MaxInboxes:             int(c.maxInboxes),
		MaxQueuedBytes:         c.maxQueuedBytes,
		MaxInboxesPerPayer:     int(c.maxInboxesPerIP),
		MaxQueuedBytesPerPayer: c.maxQueuedBytesPerIP,
	})
	h.handler = inbox.NewHandler(inbox.Config{
		Store:        h.store,
		Secret:       key,
		PollTimeout:  c.poll,
		MaxBodyBytes: c.maxBodySize,
		AnyOrigin:    c.cors,
		Origins:      c.origins,
		ICEServers:   c.ice,
		Alive:        alive,
		Payer:        h.who.payer,
		Guard:        h.limits.guard,
		Logger:       h.log,
	})
	return nil
}

func (h *house) buildSource(dir string) (err error) {
	if !h.cfg.https {
		return nil
	}
	c := tlsmgr.Config{CertFile: h.cfg.serverCert, KeyFile: h.cfg.serverKey, StateDir: dir, Logger: h.log}
	h.source, err = tlsmgr.New(c)
	if err == nil && h.selfSigned() != "" && h.cfg.from["server-cert"]+h.cfg.from["server-key"] != "" {
		h.log.Warn("the files of -server-cert and -server-key do not exist, so a self-signed certificate serves")
	}
	return err
}

// selfSigned is the fingerprint of a self-signed certificate that serves, else empty.
func (h *house) selfSigned() string {
	if h.source == nil {
		return ""
	}
	state := h.source.State()[0] // a certificate is for one name at least
	if state.Source != "self-signed" {
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

// route finds the room for a path. There are three: a table would cost more.
func (h *house) route(pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/inbox", "/ice":
			h.handler.ServeHTTP(w, r)
		case "/healthz":
			healthz(w, r)
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
	chain := limitHeader(h.cfg.maxHeaderSize, h.limits.held.Handler(h.route(pages)))
	chain = h.readableElsewhere(h.limits.requests.Handler(chain))
	chain = limitBody(h.times.body, chain)
	if h.log.Enabled(context.Background(), slog.LevelDebug) {
		chain = logRequests(h.log, chain)
	}
	h.server = &http.Server{
		Handler:           chain,
		ConnContext:       withPeer,
		ErrorLog:          h.noise.logger(),
		ReadHeaderTimeout: h.times.header, // and for the TLS handshake
		IdleTimeout:       h.times.idle,
		// It counts from the end of the header: a body, then a wait, then the answer.
		WriteTimeout:   h.times.body + h.cfg.poll + h.times.write,
		MaxHeaderBytes: int(h.cfg.maxHeaderSize),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 100,
			SendPingTimeout:      30 * time.Second, // finds those who left without a word
			PingTimeout:          15 * time.Second,
			WriteByteTimeout:     h.times.write,
		},
	}
	h.server.RegisterOnShutdown(h.handler.EndPolls)
}
