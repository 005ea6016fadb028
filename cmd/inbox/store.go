package main

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"log/slog"
	"time"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/metrics"
	"inbox/inbox"
	"inbox/inbox/redisstore"
	"inbox/tlsmgr"
	"inbox/tlsmgr/redisstorage"
)

// passwordHashKey returns the key of the hashes of passwords and payers. Nodes on one
// store must produce equal hashes, so they use a constant; the hashes leave the process
// only after the store has hashed them again with its own secret.
func passwordHashKey(c *config.Config, dir string) ([]byte, error) {
	if c.Store != nil {
		shared := sha256.Sum256([]byte("inbox: nodes of one store"))
		return shared[:], nil
	}
	return loadSecret(dir)
}

// openStore starts connecting to the store, if one is configured. The server listens in
// the meantime and reports that it is not ready.
func (s *server) openStore() {
	c := s.cfg
	if c.Store == nil {
		return
	}
	cfg := storeConfig(c, s.log)
	if s.listeners.metrics == nil {
		s.shared = redisstore.New(cfg)
	} else {
		meter := metrics.NewStoreMeter()
		cfg.Observe = meter.Observe
		s.shared = redisstore.New(cfg)
		s.collectors = append(s.collectors, meter.Collector(s.shared))
	}
	s.health.addCheck("store", func() bool { return s.shared.Ready() == nil })
}

// examineStore returns the doctor's check of the store; nil without a store.
func examineStore(c *config.Config) func(context.Context) (redisstore.Report, error) {
	if c.Store == nil {
		return nil
	}
	return func(ctx context.Context) (redisstore.Report, error) {
		return redisstore.Examine(ctx, storeConfig(c, nil))
	}
}

// openUsedStore connects to the store if nodes with the same key have used it, so that
// the doctor writes nothing to a new store. Otherwise, and if the store is unavailable,
// it returns nil.
func openUsedStore(c *config.Config) *redisstore.Store {
	ctx, cancel := context.WithTimeout(context.Background(), storeStartTimeout)
	defer cancel()
	if r, err := redisstore.Examine(ctx, storeConfig(c, nil)); err != nil || r.Unused || r.KeyMismatch {
		return nil
	}
	store := redisstore.New(storeConfig(c, nil))
	if awaitReady(store); store.Ready() != nil {
		store.Shutdown()
		return nil
	}
	return store
}

func storeConfig(c *config.Config, log *slog.Logger) redisstore.Config {
	return redisstore.Config{
		Address: c.Store.Address, Key: c.Store.Key, Limits: c.Mailboxes, MaxBodyBytes: c.MaxBodyBytes, Logger: log,
		Replicas: c.Store.Replicas,
	}
}

// sharedCertificates returns the storage in which nodes share certificates and session
// ticket keys, or nil. The storage is encrypted and therefore requires a key.
func sharedCertificates(c *config.Config, s *redisstore.Store) tlsmgr.Shared {
	if s == nil || c.Store.Key == nil {
		return nil
	}
	key, err := hkdf.Key(sha256.New, c.Store.Key, nil, "inbox certificates", sha256.Size)
	if err != nil {
		panic(err) // only for an excessive key length
	}
	shared, err := redisstorage.New(s, redisstore.Prefix, key)
	if err != nil {
		panic(err) // only for an invalid key length
	}
	return shared
}

// storeStartTimeout is how long a start waits for the store, so that certificates are
// available at the first handshake. After that they are loaded once the store connects.
const storeStartTimeout = 2 * time.Second

func awaitReady(s *redisstore.Store) {
	for end := time.Now().Add(storeStartTimeout); s.Ready() != nil && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
}

// stats returns the statistics of the shared store, or else of the mailboxes in memory.
func (s *server) stats() inbox.Stats {
	if s.shared != nil {
		return s.shared.Stats()
	}
	return s.store.Stats()
}
