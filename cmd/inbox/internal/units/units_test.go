package units

import (
	"math"
	"strings"
	"testing"
)

func TestAccepted(t *testing.T) {
	const second, minute, hour = int64(1e9), int64(60e9), int64(3600e9)
	for _, row := range []struct {
		kind *Kind
		text string
		want int64
	}{
		{Seconds, "0", 0}, {Seconds, "60", minute}, {Seconds, "007", 7 * second}, {Seconds, "90s", 90 * second}, {Seconds, "0s", 0},
		{Seconds, "5m", 5 * minute}, {Seconds, "2h", 2 * hour}, {Seconds, "1d", 24 * hour}, {Seconds, "1h30m", 90 * minute},
		{Seconds, "1d12h30m15s", 36*hour + 30*minute + 15*second}, {Seconds, "60000ms", minute}, {Seconds, "1m30000ms", 90 * second},
		{Seconds, "2000000us", 2 * second}, {Seconds, "1000000000ns", second}, {Seconds, "1s1000ms", 2 * second},
		{Bytes, "0", 0}, {Bytes, "1048576", 1 << 20}, {Bytes, "512B", 512}, {Bytes, "64kB", 64_000}, {Bytes, "10MB", 10_000_000},
		{Bytes, "2GB", 2e9}, {Bytes, "64KiB", 64 << 10}, {Bytes, "16MiB", 16 << 20}, {Bytes, "1GiB", 1 << 30},
		{Gigabytes, "1000", 1e12}, {Gigabytes, "1000GB", 1e12}, {Gigabytes, "500MB", 5e8}, {Gigabytes, "2GiB", 2 << 30},
		{MegabitsPerSecond, "100", 1e8}, {MegabitsPerSecond, "500kbit/s", 5e5}, {MegabitsPerSecond, "100Mbit/s", 1e8}, {MegabitsPerSecond, "2Gbit/s", 2e9},
		{Seconds, "9223372036854775807", math.MaxInt64}, {Seconds, "99999999999999999999", math.MaxInt64}, {Seconds, "106751d106751d", -1},
		{Seconds, "106751d24h", math.MaxInt64}, {Bytes, "99999999999GiB", math.MaxInt64},
	} {
		got, err := row.kind.Parse(row.text)
		if row.want < 0 && err == nil || row.want >= 0 && (err != nil || got != row.want) {
			t.Errorf("%s of %s: got %d, %v, want %d", row.text, row.kind.Plain(), got, err, row.want)
		}
	}
}

// TestRefused checks that each error names the accepted forms in one line, and corrects common
// mistakes.
func TestRefused(t *testing.T) {
	for _, row := range []struct {
		kind        *Kind
		text, meant string
	}{
		{Seconds, "", ""}, {Seconds, " ", ""}, {Seconds, "s", ""}, {Seconds, "-1", ""}, {Seconds, "-5s", ""}, {Seconds, "NaN", ""},
		{Seconds, "Inf", ""}, {Seconds, "1e3", ""}, {Seconds, "1e3s", ""}, {Seconds, "0x10", ""}, {Seconds, "1_000", ""}, {Seconds, "1,5", ""},
		{Seconds, "1h30", ""}, {Seconds, "30m1h", ""}, {Seconds, "1m1m", ""}, {Seconds, "5w", ""}, {Seconds, "٣", ""}, {Seconds, "5\x00", ""},
		{Seconds, "forever", ""}, {Seconds, "1.5", ""}, {Seconds, strings.Repeat("9", 65), ""}, {Seconds, "1s ; reboot", ""},
		{Seconds, "+5", "5"}, {Seconds, "5 s", "5s"}, {Seconds, " 60", "60"}, {Seconds, "60\n", "60"}, {Seconds, "5sec", "5s"}, {Seconds, "5min", "5m"},
		{Seconds, "2 hours", "2h"}, {Seconds, "1day", "1d"}, {Seconds, "60S", "60s"}, {Seconds, "1H30M", "1h30m"}, {Seconds, "2000000µs", "2000000us"},
		{Seconds, "1.5h", "90m"}, {Seconds, "0.5 min", "30s"},
		{Bytes, "-1", ""}, {Bytes, "1TB", ""}, {Bytes, "1MB1kB", ""}, {Bytes, "1MBit", ""}, {Bytes, "1.3B", ""}, {Bytes, "MiB", ""},
		{Bytes, "64KB", "64kB"}, {Bytes, "64k", "64kB"}, {Bytes, "64K", "64kB"}, {Bytes, "10M", "10MB"}, {Bytes, "10mb", "10MB"}, {Bytes, "1Gi", "1GiB"},
		{Bytes, "1gib", "1GiB"}, {Bytes, "10 MB", "10MB"}, {Bytes, "1.5GiB", "1536MiB"}, {Bytes, "100 bytes", "100B"}, {Bytes, "2b", "2B"},
		{Gigabytes, "1.5", "1500MB"}, {Gigabytes, "1TB", ""}, {Gigabytes, "-1", ""},
		{MegabitsPerSecond, "100Mbps", "100Mbit/s"}, {MegabitsPerSecond, "1G", "1Gbit/s"}, {MegabitsPerSecond, "100MB/s", ""},
		{MegabitsPerSecond, "1.5Gbit/s", "1500Mbit/s"}, {MegabitsPerSecond, "10mbit/s", "10Mbit/s"}, {MegabitsPerSecond, "1bit/s", ""}, {MegabitsPerSecond, "10Mb/s", "10Mbit/s"},
	} {
		_, err := row.kind.Parse(row.text)
		if err == nil || !strings.Contains(err.Error(), row.kind.Forms()) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v, want one line with the accepted forms", row.text, err)
			continue
		}
		_, meant, _ := strings.Cut(err.Error(), "; did you mean ")
		if meant = strings.TrimSuffix(meant, "?"); meant != row.meant {
			t.Errorf("%q: got the correction %q, want %q", row.text, meant, row.meant)
		}
	}
}

func TestBelowResolution(t *testing.T) {
	for _, text := range []string{"500ms", "1ns", "1500ms", "1s1ns", "999999us"} {
		if _, err := Seconds.Parse(text); err == nil || !strings.HasPrefix(err.Error(), "must be in whole seconds: ") {
			t.Errorf("%s: got %v, want an error about the resolution", text, err)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, row := range []struct {
		kind        *Kind
		n           int64
		plain, unit string
	}{
		{Seconds, 0, "0", "0"}, {Seconds, 60e9, "60", "1m"}, {Seconds, 25e9, "25", "25s"}, {Seconds, 5e8, "500ms", "500ms"},
		{Bytes, 1 << 20, "1048576", "1MiB"}, {Bytes, 1e6, "1000000", "1MB"}, {Bytes, 1001, "1001", "1001B"},
		{Gigabytes, 1e12, "1000", "1000GB"}, {Gigabytes, 5e8, "500MB", "500MB"}, {MegabitsPerSecond, 0, "0", "0"}, {MegabitsPerSecond, 5e5, "500kbit/s", "500kbit/s"},
	} {
		if plain, unit := row.kind.Format(row.n), row.kind.FormatUnit(row.n); plain != row.plain || unit != row.unit {
			t.Errorf("%d of %s: got %s and %s, want %s and %s", row.n, row.kind.Plain(), plain, unit, row.plain, row.unit)
		}
	}
}

// FuzzParse checks that accepted values are written and read again alike, and that corrections
// are accepted.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "1h30m", "64KiB", "2Gbit/s", "1.5GiB", "5 min", "1e9", "99999999999999999999d", "1.000000000001h", "µs", "+1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, k := range []*Kind{Seconds, Bytes, Gigabytes, MegabitsPerSecond} {
			n, err := k.Parse(text)
			if err == nil && n < math.MaxInt64 {
				wantSame(t, k, n, k.Format(n))
				wantSame(t, k, n, k.FormatUnit(n))
			}
			if n < 0 {
				t.Errorf("%q: got %d", text, n)
			}
			if err == nil {
				continue
			}
			if _, meant, found := strings.Cut(err.Error(), "; did you mean "); found {
				if _, err := k.Parse(strings.TrimSuffix(meant, "?")); err != nil {
					t.Errorf("%q: the correction is refused: %v", text, err)
				}
			}
		}
	})
}

func wantSame(t *testing.T, k *Kind, n int64, text string) {
	t.Helper()
	if again, err := k.Parse(text); err != nil || again != n {
		t.Errorf("%d is written as %q and read as %d, %v", n, text, again, err)
	}
}
