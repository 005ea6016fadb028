package main

import (
	"context"
	"io"
	"log"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
	"sync/atomic"

	"inbox/cmd/inbox/systemd"
)

func newLogger(c *config, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.level}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if c.logFormat == "json" {
		h = slog.NewJSONHandler(w, opts)
	}
	return slog.New(systemd.JournalHandler(w, h))
}

// errorLogFilter takes what net/http has to say. What any scanner can cause at will
// is counted, and logged at debug only; addresses are masked in all of it.
type errorLogFilter struct {
	log        *slog.Logger
	count      func(text string) // counts a suppressed line; nil counts none
	suppressed atomic.Int64
}

func (f *errorLogFilter) logger() *log.Logger { return log.New(f, "", 0) }

func (f *errorLogFilter) Write(line []byte) (int, error) {
	text := maskAddresses(strings.TrimSpace(string(line)))
	level := slog.LevelError
	if isClientCaused(text) {
		f.suppressed.Add(1)
		if f.count != nil {
			f.count(text)
		}
		level = slog.LevelDebug
	}
	f.log.Log(context.Background(), level, "net/http", "err", text)
	return len(line), nil
}

// captureStandardLog leads what libraries write to the standard log through the
// filter: certmagic does so of ports that are taken, and its own listeners of
// strangers, with their addresses.
func (f *errorLogFilter) captureStandardLog() {
	log.SetFlags(0)
	log.SetOutput(f)
}

// isClientCaused is true for what a stranger can cause with a few odd bytes. A panic
// is always ours.
func isClientCaused(text string) bool {
	return strings.HasPrefix(text, "http: TLS handshake error") ||
		strings.HasPrefix(text, "http: URL query contains semicolon") ||
		strings.HasPrefix(text, "[") || // certmagic, of one attempt, of which the supervisor tells what matters
		strings.HasPrefix(text, "timeout waiting for ") || // a PING or SETTINGS of HTTP/2
		strings.HasPrefix(text, "http2: ") && !strings.HasPrefix(text, "http2: panic")
}

// addressPattern finds what net/http prints for a peer: 192.0.2.1:443 or [2001:db8::1]:443.
var addressPattern = regexp.MustCompile(`(\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]+(?:%[^\]]*)?\]):\d+`)

func maskAddresses(text string) string { return addressPattern.ReplaceAllStringFunc(text, maskAddress) }

// maskAddress keeps enough of an address to see where trouble comes from, and
// too little to tell who it is: /24 for IPv4, /48 for IPv6.
func maskAddress(hostport string) string {
	ap, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return "(address)"
	}
	return prefixOf(ap.Addr(), 24, 48).String()
}

// prefixOf is the network of an address. IPv4 that came over a socket for
// both is IPv4: as IPv6 it would all be one network.
func prefixOf(a netip.Addr, bits4, bits6 int) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := bits6
	if a.Is4() {
		bits = bits4
	}
	p, _ := a.Prefix(bits) // an error only for bits beyond the address
	return p
}
