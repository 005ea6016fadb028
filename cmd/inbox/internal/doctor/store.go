package doctor

import (
	"context"
	"fmt"

	"inbox/inbox/redisstore"
	"inbox/tlsmgr/storage/redis"
)

// checkStore checks the shared store.
func (e *examination) checkStore(ctx context.Context) []Finding {
	r, err := e.Store(ctx)
	if err != nil {
		return []Finding{failure(r.Address, fmt.Sprintf("The store is unusable: %v.", err),
			"Make sure that it runs, that this machine can connect to it, and that its user has the permissions listed in docs/scale.md.")}
	}
	found := []Finding{good(r.Address, fmt.Sprintf("Connected (%s). Scripts run on every primary.", r.Kind))}
	switch {
	case r.KeyMismatch:
		found = append(found, failure(r.Address, "Other nodes use this store with a different key.",
			"Use the same -store-key-file on all nodes, or none on all of them."))
	case r.Unused:
		found = append(found, good(r.Address, "No node has used the store yet."))
	}
	found = append(found, e.checkStoreClock(r)...)
	for _, s := range r.Servers {
		found = append(found, checkStoreServer(s, r.Replicas)...)
	}
	return found
}

// checkStoreClock is stricter with domains: the store's clock decides when to order.
func (e *examination) checkStoreClock(r redisstore.Report) []Finding {
	off := r.ClockSkew.Abs()
	text := fmt.Sprintf("The clock of this machine is %v %s the clock of the store.", off, direction(r.ClockSkew))
	const fix = "Set both clocks and enable time synchronization: timedatectl set-ntp true."
	switch {
	case off > redis.MaxClockSkew && len(e.Domains) > 0:
		return []Finding{failure(r.Address, text+" No certificates are ordered until this is fixed.", fix)}
	case off > clockWarning:
		return []Finding{warning(r.Address, text, fix)}
	}
	return nil
}

func checkStoreServer(s redisstore.ServerReport, replicas int) (found []Finding) {
	if s.TooOld {
		found = append(found, failure(s.Address, fmt.Sprintf("%s %s is too old.", s.Product, s.Version),
			"Use Redis "+redisstore.MinRedisVersion+" or newer, or Valkey."))
	}
	if s.Replicas < replicas {
		found = append(found, failure(s.Address, fmt.Sprintf("%d replicas are up to date, but -store-replicas is %d, so requests are refused with Retry-After.", s.Replicas, replicas),
			"Add replicas, or lower -store-replicas."))
	}
	found = append(found, checkStoreMemory(s)...)
	found = append(found, checkStorePersistence(s)...)
	if len(found) == 0 {
		found = []Finding{good(s.Address, fmt.Sprintf("%s %s with %d MiB of memory, no eviction, and an append-only file.", s.Product, s.Version, s.MaxBytes>>20))}
	}
	return found
}

func checkStoreMemory(s redisstore.ServerReport) []Finding {
	switch {
	case s.MaxBytes == 0:
		return []Finding{warning(s.Address, "The memory is not limited, so the system can kill the store when memory runs out.", "Set maxmemory, and maxmemory-policy noeviction.")}
	case s.EvictionPolicy != "noeviction":
		return []Finding{failure(s.Address, fmt.Sprintf("The store evicts mailboxes when its memory is full (maxmemory-policy %s).", s.EvictionPolicy), "Set maxmemory-policy noeviction.")}
	case s.UsedBytes > s.MaxBytes/10*9:
		return []Finding{warning(s.Address, fmt.Sprintf("%d of %d MiB are used. A full store rejects messages.", s.UsedBytes>>20, s.MaxBytes>>20), "Raise maxmemory.")}
	}
	return nil
}

func checkStorePersistence(s redisstore.ServerReport) []Finding {
	switch {
	case !s.AppendOnly:
		return []Finding{warning(s.Address, "The store has no append-only file, so its restart loses all mailboxes and the shared certificates.",
			"Set appendonly yes and appendfsync always.")}
	case s.WriteFailed:
		return []Finding{failure(s.Address, "The store cannot write its append-only file and rejects all writes.", "Check its log. Usually the disk is full.")}
	case s.Fsync != "" && s.Fsync != "always":
		return []Finding{warning(s.Address, fmt.Sprintf("A power failure can lose accepted messages (appendfsync %s).", s.Fsync),
			"Set appendfsync always, or accept the risk.")}
	}
	return nil
}
