package tlsmgr

import (
	"log/slog"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/storage"
)

// ErrUsage is wrapped by each error about a configuration that is inconsistent, or that
// the ACME engine does not support.
var ErrUsage = acme.ErrUsage

// Config configures where certificates come from and where they are stored.
type Config struct {
	// CertFile and KeyFile hold a PEM certificate chain and its key. Without Domains,
	// both must be valid if either exists.
	CertFile, KeyFile string
	// StateDir is the directory for certificates, accounts and the schedules of
	// orders. If empty, each start creates a new self-signed certificate, and no
	// certificates are ordered, since CA rate limits cannot be respected without a
	// stored schedule.
	StateDir string
	// Shared is a storage that several nodes use instead of StateDir for certificates
	// from a CA. It also holds the shared session ticket keys. Nil means a single
	// node.
	Shared storage.Storage
	// Logger receives changes and errors; nil discards them.
	Logger *slog.Logger

	// Domains are the host names and IP addresses to obtain certificates for. If set,
	// handshakes for other names fail, and the certificate files are the fallback
	// for names without a valid certificate.
	Domains []string
	// ACME selects the engine and the CA; used only with Domains.
	ACME acme.Config
}
