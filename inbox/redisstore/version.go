package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// MinRedisVersion is the first version of Redis that is used; every Valkey is. One
// before it has neither users nor TLS, a subscription of it that was lost is not
// taken up again, and before 5.0 scripts that look at the clock may not write.
const MinRedisVersion = "6.0"

// product is what a server of the store says it is.
type product struct{ name, version string }

// productOf reads what INFO says. Valkey names the version of Redis that it can
// stand in for as well, and every other such engine that alone.
func productOf(info map[string]string) product {
	if version := info["valkey_version"]; version != "" {
		return product{"Valkey", version}
	}
	return product{"Redis", info["redis_version"]}
}

// tooOld is false for one that does not say its version: then scripts tell.
func (e product) tooOld() bool {
	oldest, _, _ := strings.Cut(MinRedisVersion, ".")
	least, _ := strconv.Atoi(oldest)
	major, _, _ := strings.Cut(e.version, ".")
	n, err := strconv.Atoi(major)
	return err == nil && e.name == "Redis" && n < least
}

// fetchInfo returns what a server says of itself.
func fetchInfo(ctx context.Context, srv rueidis.Client) (map[string]string, error) {
	text, err := srv.Do(ctx, srv.B().Info().Build()).ToString()
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

// checkVersions is an error when a server of the store is too old to be of use.
// One that does not answer, or not to this, is not looked at: the books tell
// whether it is there.
func checkVersions(ctx context.Context, client rueidis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, srv := range client.Nodes() {
		info, err := fetchInfo(ctx, srv)
		if err != nil {
			continue
		}
		if p := productOf(info); p.tooOld() {
			return fmt.Errorf("it is %s %s; use Redis %s or newer, or Valkey", p.name, p.version, MinRedisVersion)
		}
	}
	return nil
}
