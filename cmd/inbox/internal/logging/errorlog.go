package logging

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync/atomic"
)

// ErrorLog receives the error log of net/http. It masks addresses, counts the errors
// that any client can cause at will and logs those at debug level only; all others
// are logged as errors.
type ErrorLog struct {
	// OnHandshakeError, if not nil, is called for each failed TLS handshake with the peer's
	// address, as net prints it, and the reason. It must be set before the first error.
	OnHandshakeError func(peer, reason string)

	log             *slog.Logger
	handshakeErrors [len(handshakeFailures)]atomic.Int64
	protocolErrors  atomic.Int64
}

// NewErrorLog returns an ErrorLog that writes to log.
func NewErrorLog(log *slog.Logger) *ErrorLog { return &ErrorLog{log: log} }

// Logger returns the logger for [net/http.Server.ErrorLog].
func (e *ErrorLog) Logger() *log.Logger { return log.New(e, "", 0) }

// CaptureStandardLog redirects the output of package log to e. certmagic writes there
// about ports in use, and its own listeners about their clients.
func (e *ErrorLog) CaptureStandardLog() {
	log.SetFlags(0)
	log.SetOutput(e)
}

// Write logs one line.
func (e *ErrorLog) Write(line []byte) (int, error) {
	text := maskAddresses(strings.TrimSpace(string(line)))
	level := slog.LevelDebug
	switch {
	case strings.HasPrefix(text, handshakePrefix):
		failure := handshakeFailure(text)
		e.handshakeErrors[failure].Add(1)
		if e.OnHandshakeError != nil {
			e.OnHandshakeError(handshakePeer(string(line)), handshakeFailures[failure].reason)
		}
	case isClientCaused(text):
		e.protocolErrors.Add(1)
	default:
		level = slog.LevelError
	}
	e.log.Log(context.Background(), level, "net/http", "err", text)
	return len(line), nil
}

// HandshakeErrors returns the number of failed TLS handshakes for every reason, 0
// included.
func (e *ErrorLog) HandshakeErrors() map[string]int64 {
	counts := map[string]int64{}
	for i, f := range handshakeFailures {
		counts[f.reason] = e.handshakeErrors[i].Load()
	}
	return counts
}

// ProtocolErrors returns the number of errors after the handshake that clients caused.
func (e *ErrorLog) ProtocolErrors() int64 { return e.protocolErrors.Load() }

// Suppressed returns the number of errors that clients caused, which only the debug level logs.
func (e *ErrorLog) Suppressed() int64 {
	sum := e.ProtocolErrors()
	for _, n := range e.HandshakeErrors() {
		sum += n
	}
	return sum
}

// handshakePrefix starts a line of net/http about a failed TLS handshake.
const handshakePrefix = "http: TLS handshake error"

// handshakePeer returns the peer's address in a line about a failed handshake.
func handshakePeer(line string) string {
	_, rest, _ := strings.Cut(line, handshakePrefix+" from ")
	peer, _, _ := strings.Cut(rest, ": ")
	return peer
}

// isClientCaused reports whether clients can cause the error at will. A panic is
// always an error of the server.
func isClientCaused(text string) bool {
	return strings.HasPrefix(text, "http: URL query contains semicolon") ||
		strings.HasPrefix(text, "[") || // certmagic, about a single attempt; tlsmgr logs the result
		strings.HasPrefix(text, "timeout waiting for ") || // HTTP/2 PING or SETTINGS
		strings.HasPrefix(text, "http2: ") && !strings.HasPrefix(text, "http2: panic")
}

// NoCertificate is the reason of a handshake with an unknown or missing server name (SNI), as
// of a misconfigured proxy.
const NoCertificate = "no-certificate"

// handshakeFailures maps texts of net/http, which does not expose the errors, to the
// reasons of failed handshakes. The first match counts. Only the text of the first
// reason quotes what the client offered.
var handshakeFailures = [...]struct {
	reason string
	texts  []string
}{
	{"no-protocol", []string{"unsupported application protocols", "did not request an application protocol"}},
	{"version", []string{"unsupported versions", "legacy version field", "inappropriate protocol fallback"}},
	{"no-cipher", []string{"no cipher suite supported", "no key exchanges supported", "peer doesn't support any of the certificate's signature algorithms"}},
	{NoCertificate, []string{"no certificates configured"}}, // for an unknown name
	{"not-tls", []string{"does not look like a TLS handshake", "sent an HTTP request to an HTTPS server"}},
	{"rejected", []string{"remote error: tls: "}}, // by the client, like a self-signed certificate
	{"timeout", []string{"i/o timeout", "deadline exceeded"}},
	{"closed", []string{"EOF", "connection reset", "broken pipe", "closed network connection"}},
	{"other", []string{""}},
}

// handshakeFailure returns an index of handshakeFailures.
func handshakeFailure(text string) int {
	for i, f := range handshakeFailures {
		for _, part := range f.texts {
			if strings.Contains(text, part) {
				return i
			}
		}
	}
	return len(handshakeFailures) - 1
}
