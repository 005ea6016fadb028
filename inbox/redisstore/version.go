package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// MinRedisVersion is the oldest supported version of Redis; all versions of Valkey are
// supported. Older versions have neither users nor TLS, and the client does not restore
// their subscriptions; before 5.0, scripts that read the clock cannot write.
const MinRedisVersion = "6.0"

// product is the name and version that a server reports.
type product struct{ name, version string }

// productOf reads the reply of INFO. Valkey reports the compatible version of Redis in
// addition to its own; other engines report only that.
func productOf(info map[string]string) product {
	if version := info["valkey_version"]; version != "" {
		return product{"Valkey", version}
	}
	return product{"Redis", info["redis_version"]}
}

// tooOld returns false if the version is unknown; then the first script shows whether
// the server is usable.
func (e product) tooOld() bool {
	oldest, _, _ := strings.Cut(MinRedisVersion, ".")
	least, _ := strconv.Atoi(oldest)
	major, _, _ := strings.Cut(e.version, ".")
	n, err := strconv.Atoi(major)
	return err == nil && e.name == "Redis" && n < least
}

// fetchInfo returns the fields of INFO.
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

// checkVersions returns an error if a server of the store is too old. Servers that do
// not answer INFO are skipped: checkUsage detects unavailable ones.
func checkVersions(ctx context.Context, client rueidis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, srv := range client.Nodes() {
		info, err := fetchInfo(ctx, srv)
		if err != nil {
			continue
		}
		if p := productOf(info); p.tooOld() {
			return fmt.Errorf("%s %s is not supported: use Redis %s or newer, or Valkey", p.name, p.version, MinRedisVersion)
		}
	}
	return nil
}
