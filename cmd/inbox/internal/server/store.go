package server

import (
	"context"
	"log/slog"
	"time"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/metrics"
	"inbox/inbox/redisstore"
)

// openStore starts connecting to the store. The server listens in the meantime and
// reports that it is not ready. meter can be nil.
func openStore(c *config.Config, meter *metrics.StoreMeter, log *slog.Logger) *redisstore.Store {
	sc := storeConfig(c, log)
	if meter != nil {
		sc.Observe = meter.Observe
	}
	return redisstore.New(sc)
}

func storeConfig(c *config.Config, log *slog.Logger) redisstore.Config {
	return redisstore.Config{
		Address: c.Store.Address, Key: c.Store.Key, Limits: c.Mailboxes, MaxBodyBytes: c.MaxBodyBytes, Logger: log,
		Replicas: c.Store.Replicas,
	}
}

// storeStartTimeout is how long a start waits for the store, so that certificates are
// available at the first handshake. After that they are loaded once the store connects.
const storeStartTimeout = 2 * time.Second

func awaitReady(s *redisstore.Store) {
	for end := time.Now().Add(storeStartTimeout); s.Ready() != nil && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
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
