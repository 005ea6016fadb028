package server

import (
	"errors"
	"fmt"
	"log/slog"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/state"
	"inbox/inbox/redisstore"
	"inbox/tlsmgr"
	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/autocert"
	"inbox/tlsmgr/acme/certmagic"
	"inbox/tlsmgr/storage"
	"inbox/tlsmgr/storage/redis"
)

// openCertificates returns the certificate manager. shared is the store of the
// mailboxes, nil without one.
func openCertificates(c *config.Config, dir string, s sockets, shared *redisstore.Store, log *slog.Logger) (*tlsmgr.Manager, error) {
	tlsConfig := tlsmgrConfig(c, dir, s, log)
	if tlsConfig.Shared = sharedCertificates(c, shared, log); tlsConfig.Shared != nil {
		awaitReady(shared)
	}
	certs, err := tlsmgr.New(tlsConfig)
	if err != nil {
		return nil, nameOptions(c, err)
	}
	if c.CertFilesGiven && selfSignedFingerprint(c, certs) != "" {
		log.Warn("the files of -server-cert and -server-key do not exist; using a self-signed certificate")
	}
	return certs, nil
}

// nameOptions adds the given options of certificates to an error about them.
func nameOptions(c *config.Config, err error) error {
	if errors.Is(err, tlsmgr.ErrUsage) && c.ACME.Given != "" {
		return fmt.Errorf("%s: %w", c.ACME.Given, err)
	}
	return err
}

// acmeEngines are the values of -acme.
var acmeEngines = map[string]acme.EngineFactory{"certmagic": certmagic.New, "autocert": autocert.New}

// tlsmgrConfig returns the configuration of the certificate manager, with the ports at
// which the CA reaches the given listeners.
func tlsmgrConfig(c *config.Config, dir string, s sockets, log *slog.Logger) tlsmgr.Config {
	a := c.ACME
	return tlsmgr.Config{
		CertFile: c.CertFile, KeyFile: c.KeyFile, StateDir: dir, Logger: log, Domains: c.Domains,
		ACME: acme.Config{
			Engine: acmeEngines[a.Engine], Email: a.Email, Agreed: a.Agreed, CA: a.CA, FallbackCA: a.FallbackCA,
			Staging: a.Staging, StagingFirst: a.StagingFirst, Profile: a.Profile, WaitForAddress: a.Preflight,
			ListenHost: hostOf(s.main), TLSPort: portOf(s.main), HTTPPort: portOf(s.redirect),
			NoHTTP: s.redirect == nil || a.NoHTTP01, NoTLS: a.NoTLSALPN01,
		},
	}
}

// CheckCertificates reports options of automatic certificates that a server would refuse at its
// start. It opens no port and orders nothing.
func CheckCertificates(c *config.Config) error {
	if !c.HTTPS || len(c.Domains) == 0 {
		return nil
	}
	tlsConfig := tlsmgrConfig(c, c.StateDir, sockets{}, slog.New(slog.DiscardHandler))
	tlsConfig.ACME.NoHTTP = c.HTTPBind.Value == "" || c.ACME.NoHTTP01
	_, err := tlsmgr.New(tlsConfig)
	return nameOptions(c, err)
}

// selfSignedFingerprint returns the fingerprint of the self-signed certificate, or "" if
// the server uses another certificate or none.
func selfSignedFingerprint(c *config.Config, certs *tlsmgr.Manager) string {
	if certs == nil {
		return ""
	}
	state := certs.State()[0] // there is always at least one
	if state.Source != "self-signed" || len(c.Domains) > 0 {
		return ""
	}
	return state.Fingerprint
}

// sharedCertificates returns the storage in which nodes share certificates and session
// ticket keys, or nil. The storage is encrypted and therefore requires a key.
func sharedCertificates(c *config.Config, s *redisstore.Store, log *slog.Logger) storage.Storage {
	if s == nil || c.Store.Key == nil {
		return nil
	}
	shared, err := redis.New(s, redisstore.Prefix, state.DeriveKey(c.Store.Key, "inbox certificates"), log)
	if err != nil {
		panic(err) // only for an invalid key length
	}
	return shared
}
