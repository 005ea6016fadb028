package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// OldestRedis is the first version of Redis that is used; every Valkey is. One
// before it has neither users nor TLS, a subscription of it that was lost is not
// taken up again, and before 5.0 scripts that look at the clock may not write.
const OldestRedis = "6.0"

// engine is what a server of the store says it is.
type engine struct{ name, version string }

// engineOf reads what INFO says. Valkey names the version of Redis that it can
// stand in for as well, and every other such engine that alone.
func engineOf(info map[string]string) engine {
	if version := info["valkey_version"]; version != "" {
		return engine{"Valkey", version}
	}
	return engine{"Redis", info["redis_version"]}
}

// tooOld is false for one that does not say its version: then scripts tell.
func (e engine) tooOld() bool {
	oldest, _, _ := strings.Cut(OldestRedis, ".")
	least, _ := strconv.Atoi(oldest)
	major, _, _ := strings.Cut(e.version, ".")
	n, err := strconv.Atoi(major)
	return err == nil && e.name == "Redis" && n < least
}

// askInfo returns what a server says of itself.
func askInfo(ctx context.Context, one rueidis.Client) (map[string]string, error) {
	text, err := one.Do(ctx, one.B().Info().Build()).ToString()
	if err != nil {
		return nil, err
	}
	info := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		info[name] = value
	}
	return info, nil
}

// checkEngines is an error when a server of the store is too old to be of use.
// One that does not answer, or not to this, is not looked at: the books tell
// whether it is there.
func checkEngines(ctx context.Context, client rueidis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, one := range client.Nodes() {
		info, err := askInfo(ctx, one)
		if err != nil {
			continue
		}
		if e := engineOf(info); e.tooOld() {
			return fmt.Errorf("it is %s %s; use Redis %s or newer, or Valkey", e.name, e.version, OldestRedis)
		}
	}
	return nil
}
