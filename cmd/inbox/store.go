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

	"inbox/inbox"
	"inbox/inbox/redisstore"
	"inbox/tlsmgr/storage"
	"inbox/tlsmgr/storage/redis"
)

// storeOptions say where mailboxes are that several processes share.
type storeOptions struct {
	rawAddress, file, ca, keyFile string
	replicas                      int64

	address redisstore.Address
	key     []byte // seals messages; nil: nothing does
}

// maxStoreCapacity is the most messages of one inbox in a store: what a script
// forgets at once.
const maxStoreCapacity = 10_000

// maxReplicas is more than anybody waits for.
const maxReplicas = 100

func (o *storeOptions) shared() bool { return o.rawAddress != "" || o.file != "" }

// resolveStore reads the address and what belongs to it. No error repeats the
// address, for it may hold a password.
func (c *config) resolveStore() (err error) {
	o := &c.store
	if !o.shared() {
		for name, given := range map[string]bool{"store-ca": o.ca != "", "store-key-file": o.keyFile != "", "store-replicas": o.replicas != 0} {
			if given {
				return c.optionError(name, errors.New("needs -store or -store-file"))
			}
		}
		return nil
	}
	if o.rawAddress != "" && o.file != "" {
		return c.optionError("store-file", errors.New("contradicts -store; give one of the two"))
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
			return c.optionError("store-ca", errors.New("needs a store over TLS, as in rediss://host"))
		}
		text, err := readSmallFile(o.ca)
		if err != nil {
			return c.optionError("store-ca", err)
		}
		if !o.address.Trust([]byte(text)) {
			return c.optionError("store-ca", errors.New("the file holds no certificate in PEM"))
		}
	}
	if o.keyFile == "" && strings.Trim(c.domain, ", ") != "" {
		return c.optionError("store-key-file", errors.New("is needed when -domain is shared over a store, for the keys of certificates are sealed there; "+
			"make it with: openssl rand -base64 32"))
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

// readKey reads 32 bytes in base64 or hexadecimal.
func readKey(text string) ([]byte, error) {
	key, err := hex.DecodeString(text)
	if err != nil {
		key, err = base64.StdEncoding.DecodeString(text)
	}
	if err != nil || len(key) != sha256.Size {
		return nil, errors.New("the file must hold 32 random bytes in base64; make it with: openssl rand -base64 32")
	}
	return key, nil
}

// passwordHashKey keys the hashes of passwords and payers. Nodes of one store have to
// hash alike, before the store's own secret hashes it once more; theirs leaves
// the process in no other way.
func (c *config) passwordHashKey(dir string) ([]byte, error) {
	if c.store.shared() {
		shared := sha256.Sum256([]byte("inbox: nodes of one store"))
		return shared[:], nil
	}
	return loadSecret(dir)
}

// openStore connects to the store, if there is one, in the background. The
// server listens meanwhile, and says that it is not ready.
func (s *server) openStore() {
	c := s.cfg
	if !c.store.shared() {
		return
	}
	cfg := c.storeConfig(s.log)
	if s.listeners.metrics == nil {
		s.shared = redisstore.New(cfg)
	} else {
		m := newStoreMeter()
		cfg.Observe = m.observe
		s.shared = redisstore.New(cfg)
		m.store = s.shared
		s.collectors = append(s.collectors, m)
	}
	s.health.addCheck("store", func() bool { return s.shared.Ready() == nil })
}

// examineStore is how the doctor looks at the store; nil without one.
func (c *config) examineStore() func(context.Context) (redisstore.Report, error) {
	if !c.store.shared() {
		return nil
	}
	return func(ctx context.Context) (redisstore.Report, error) {
		return redisstore.Examine(ctx, c.storeConfig(nil))
	}
}

// openUsedStore connects to the store if servers with this key were there before,
// or nothing may be left behind; else, and when it is away, it is nil.
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

// sharedCertificates is where nodes have certificates and the keys of session
// tickets in common; nil where they do not. What is kept there is sealed, so
// there must be a key.
func (c *config) sharedCertificates(s *redisstore.Store, log *slog.Logger) storage.Storage {
	if s == nil || c.store.key == nil {
		return nil
	}
	shared, err := redis.New(s, redisstore.Prefix, deriveKey(c.store.key, "inbox certificates"), log)
	if err != nil {
		panic(err) // only for a key of another length
	}
	return shared
}

// storeStartTimeout is how long a start waits for the store to have certificates from
// the first handshake on. Without it they come when the store does.
const storeStartTimeout = 2 * time.Second

func awaitReady(s *redisstore.Store) {
	for end := time.Now().Add(storeStartTimeout); s.Ready() != nil && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *server) closeStore() {
	if s.shared != nil {
		s.shared.Shutdown()
	}
}

// stats is what is held here, or in the store that is shared.
func (s *server) stats() inbox.Stats {
	if s.shared != nil {
		return s.shared.Stats()
	}
	return s.store.Stats()
}
