package doctor

import (
	"context"
	"fmt"
	"time"

	"inbox/inbox/redisstore"
)

// maxStoreSkew is how far the store's clock may be off before a server with a name
// orders nothing.
const maxStoreSkew = time.Minute

// checkStore looks at the store that servers share.
func (e *examination) checkStore(ctx context.Context) []Finding {
	r, err := e.Store(ctx)
	if err != nil {
		return []Finding{failure(r.Address, fmt.Sprintf("The store cannot be used: %v.", err),
			"Make sure that it runs, that this machine may connect to it, and that its user may do what docs/scale.md lists.")}
	}
	found := []Finding{good(r.Address, fmt.Sprintf("The store is there (%s), and scripts run in every part of it.", r.Kind))}
	switch {
	case r.KeyMismatch:
		found = append(found, failure(r.Address, "The servers that use this store have another key.",
			"Give all servers the same -store-key-file, or none of them one."))
	case r.Unused:
		found = append(found, good(r.Address, "No server has used it yet."))
	}
	found = append(found, e.checkStoreClock(r)...)
	for _, s := range r.Servers {
		found = append(found, checkStoreServer(s, r.Replicas)...)
	}
	return found
}

// checkStoreClock is strict where orders are recorded by it.
func (e *examination) checkStoreClock(r redisstore.Report) []Finding {
	off := r.ClockSkew.Abs()
	text := fmt.Sprintf("The clock here is %v %s that of the store.", off, direction(r.ClockSkew))
	const fix = "Set both, and keep them right: timedatectl set-ntp true."
	switch {
	case off > maxStoreSkew && len(e.Domains) > 0:
		return []Finding{failure(r.Address, text+" So no certificate is ordered.", fix)}
	case off > clockWarning:
		return []Finding{warning(r.Address, text, fix)}
	}
	return nil
}

func checkStoreServer(s redisstore.ServerReport, replicas int) (found []Finding) {
	if s.TooOld {
		found = append(found, failure(s.Address, fmt.Sprintf("It is %s %s, which servers do not use.", s.Product, s.Version),
			"Use Redis "+redisstore.MinRedisVersion+" or newer, or Valkey."))
	}
	if s.Replicas < replicas {
		found = append(found, failure(s.Address, fmt.Sprintf("It has %d replicas that are up to date, and -store-replicas wants %d, so requests are told to come back.", s.Replicas, replicas),
			"Give it more replicas, or lower -store-replicas."))
	}
	found = append(found, checkStoreMemory(s)...)
	found = append(found, checkStorePersistence(s)...)
	if len(found) == 0 {
		found = []Finding{good(s.Address, fmt.Sprintf("%s %s; it refuses what its %d MiB do not hold, and keeps the rest in a file.", s.Product, s.Version, s.MaxBytes>>20))}
	}
	return found
}

func checkStoreMemory(s redisstore.ServerReport) []Finding {
	switch {
	case s.MaxBytes == 0:
		return []Finding{warning(s.Address, "Its memory has no bound, so the machine may kill it.", "Set maxmemory, and maxmemory-policy noeviction.")}
	case s.EvictionPolicy != "noeviction":
		return []Finding{failure(s.Address, fmt.Sprintf("It drops mailboxes when its memory is full (maxmemory-policy %s).", s.EvictionPolicy), "Set maxmemory-policy noeviction.")}
	case s.UsedBytes > s.MaxBytes/10*9:
		return []Finding{warning(s.Address, fmt.Sprintf("%d of its %d MiB are used; when it is full it takes no messages.", s.UsedBytes>>20, s.MaxBytes>>20), "Raise maxmemory.")}
	}
	return nil
}

func checkStorePersistence(s redisstore.ServerReport) []Finding {
	switch {
	case !s.AppendOnly:
		return []Finding{warning(s.Address, "It keeps no append-only file, so its restart loses all mailboxes, and the certificates that are shared.",
			"Set appendonly yes and appendfsync always.")}
	case s.WriteFailed:
		return []Finding{failure(s.Address, "It cannot write its append-only file, and refuses to store anything.", "See its log; most often the disk is full.")}
	case s.Fsync != "" && s.Fsync != "always":
		return []Finding{warning(s.Address, fmt.Sprintf("A loss of power can lose messages that were acknowledged (appendfsync %s).", s.Fsync),
			"Set appendfsync always, or accept that.")}
	}
	return nil
}
