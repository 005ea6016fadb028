package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"inbox/cmd/inbox/internal/metrics"
	"inbox/inbox"
	"inbox/inbox/redisstore"
	"inbox/tlsmgr/storage"
	"inbox/tlsmgr/storage/redis"
)

// storeOptions configure the store that several nodes share.
type storeOptions struct {
	rawAddress, file, ca, keyFile string
	replicas                      int64

	address redisstore.Address
	key     []byte // encrypts messages; nil: messages are not encrypted
}

// maxStoreCapacity is the maximum number of messages of one inbox in a store. A Lua
// script deletes all of them in one call.
const maxStoreCapacity = 10_000

// maxReplicas bounds -store-replicas; no deployment needs more.
const maxReplicas = 100

func (o *storeOptions) shared() bool { return o.rawAddress != "" || o.file != "" }

// resolveStore validates the store options. No error repeats the address, which can
// contain a password.
func (c *config) resolveStore() (err error) {
	o := &c.store
	if !o.shared() {
		for name, given := range map[string]bool{"store-ca": o.ca != "", "store-key-file": o.keyFile != "", "store-replicas": o.replicas != 0} {
			if given {
				return c.optionError(name, errors.New("requires -store or -store-file"))
			}
		}
		return nil
	}
	if o.rawAddress != "" && o.file != "" {
		return c.optionError("store-file", errors.New("conflicts with -store; remove one of the two"))
	}
	text, from := o.rawAddress, "-store"
	if o.file != "" {
		if text, err = readSmallFile(o.file); err != nil {
			return c.optionError("store-file", err)
		}
		from = "the address in -store-file"
	}
	if o.address, err = redisstore.ParseAddress(strings.TrimSpace(text)); err != nil {
		return fmt.Errorf("%s %w", from, err)
	}
	if c.inboxCapacity < 1 || c.inboxCapacity > maxStoreCapacity {
		return c.optionError("inbox-capacity", fmt.Errorf("must be from 1 to %d with -store", maxStoreCapacity))
	}
	if o.replicas < 0 || o.replicas > maxReplicas {
		return c.optionError("store-replicas", fmt.Errorf("must be from 0 to %d", maxReplicas))
	}
	return c.resolveStoreFiles()
}

func (c *config) resolveStoreFiles() error {
	o := &c.store
	if o.ca != "" {
		if !o.address.TLS() {
			return c.optionError("store-ca", errors.New("requires a store over TLS, such as rediss://host"))
		}
		text, err := readSmallFile(o.ca)
		if err != nil {
			return c.optionError("store-ca", err)
		}
		if !o.address.Trust([]byte(text)) {
			return c.optionError("store-ca", errors.New("the file contains no PEM certificate"))
		}
	}
	if o.keyFile == "" && strings.Trim(c.domain, ", ") != "" {
		return c.optionError("store-key-file", errors.New("is required with -domain and a store, to encrypt "+
			"the private keys of certificates; create it with: openssl rand -base64 32"))
	}
	if o.keyFile == "" {
		return nil
	}
	text, err := readSmallFile(o.keyFile)
	if err == nil {
		o.key, err = readKey(strings.TrimSpace(text))
	}
	if err != nil {
		return c.optionError("store-key-file", err)
	}
	return nil
}

// readKey decodes a key of 32 bytes in base64 or hexadecimal.
func readKey(text string) ([]byte, error) {
	key, err := hex.DecodeString(text)
	if err != nil {
		key, err = base64.StdEncoding.DecodeString(text)
	}
	if err != nil || len(key) != sha256.Size {
		return nil, errors.New("the file must contain 32 random bytes in base64; create it with: openssl " +
			"rand -base64 32")
	}
	return key, nil
}

// passwordHashKey returns the key of the hashes of passwords and payers. Nodes on one
// store must produce equal hashes, so they use a constant; the hashes leave the process
// only after the store has hashed them again with its own secret.
func (c *config) passwordHashKey(dir string) ([]byte, error) {
	if c.store.shared() {
		shared := sha256.Sum256([]byte("inbox: nodes of one store"))
		return shared[:], nil
	}
	return loadSecret(dir)
}

// openStore starts connecting to the store, if one is configured. The server listens in
// the meantime and reports that it is not ready.
func (s *server) openStore() {
	c := s.cfg
	if !c.store.shared() {
		return
	}
	cfg := c.storeConfig(s.log)
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
func (c *config) examineStore() func(context.Context) (redisstore.Report, error) {
	if !c.store.shared() {
		return nil
	}
	return func(ctx context.Context) (redisstore.Report, error) {
		return redisstore.Examine(ctx, c.storeConfig(nil))
	}
}

// openUsedStore connects to the store if nodes with the same key have used it, so that
// the doctor writes nothing to a new store. Otherwise, and if the store is unavailable,
// it returns nil.
func (c *config) openUsedStore() *redisstore.Store {
	ctx, cancel := context.WithTimeout(context.Background(), storeStartTimeout)
	defer cancel()
	if r, err := redisstore.Examine(ctx, c.storeConfig(nil)); err != nil || r.Unused || r.KeyMismatch {
		return nil
	}
	store := redisstore.New(c.storeConfig(nil))
	if awaitReady(store); store.Ready() != nil {
		store.Shutdown()
		return nil
	}
	return store
}

func (c *config) storeConfig(log *slog.Logger) redisstore.Config {
	return redisstore.Config{
		Address: c.store.address, Key: c.store.key, Limits: c.mailboxLimits(), MaxBodyBytes: c.maxBodySize, Logger: log,
		Replicas: int(c.store.replicas),
	}
}

// sharedCertificates returns the storage in which nodes share certificates and session
// ticket keys, or nil. The storage is encrypted and therefore requires a key.
func (c *config) sharedCertificates(s *redisstore.Store, log *slog.Logger) storage.Storage {
	if s == nil || c.store.key == nil {
		return nil
	}
	shared, err := redis.New(s, redisstore.Prefix, deriveKey(c.store.key, "inbox certificates"), log)
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
