package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"
)

// config is the parsed command line.
type config struct {
	pairs, count, size, rounds int
	duration                   time.Duration
	scheme                     string
	acknowledge                bool
	maxRatio                   float64
	url                        string
	pid                        int
	serverFlags                string
	others                     []other
	bare                       string
}

// other is the command line of another mailbox server to measure. {addr} stands for its
// address and {https} for whether it must use TLS.
type other struct{ name, command string }

func parse(args []string, logs io.Writer) (cfg config, err error) {
	f := flag.NewFlagSet("load", flag.ContinueOnError)
	f.SetOutput(logs)
	f.IntVar(&cfg.pairs, "pairs", 16, "number of concurrent pairs of peers, each with its own source address")
	f.IntVar(&cfg.count, "count", 1000, "messages per round")
	f.IntVar(&cfg.size, "size", 1500, "message size in bytes")
	f.IntVar(&cfg.rounds, "rounds", 60, "rounds per server")
	f.DurationVar(&cfg.duration, "duration", 2*time.Minute, "maximum duration of the rounds per scheme")
	f.StringVar(&cfg.scheme, "scheme", "", "scheme, http or https (default both)")
	f.BoolVar(&cfg.acknowledge, "after", false, "acknowledge messages with ?after=")
	f.Float64Var(&cfg.maxRatio, "max-ratio", 0, "maximum ratio of the server's CPU time to the bare handler's; exit 1 if exceeded (0: no limit)")
	f.StringVar(&cfg.url, "url", "", "loopback URL of a running server to measure, without any other")
	f.IntVar(&cfg.pid, "pid", 0, "process ID of the server at -url, to measure its CPU time (0: not measured)")
	f.StringVar(&cfg.serverFlags, "server-flags", "-rate 1000000 -burst 1000000 -conn-rate 0",
		"space-separated flags of the server; the default limits are counted, but never reached")
	f.Func("other", "another server as 'NAME=COMMAND', with {addr} for its address and {https} for true or false (repeatable)",
		cfg.addOther)
	f.StringVar(&cfg.bare, "bare", "", "run as the bare handler over http or https (used internally)")
	if err := f.Parse(args); err != nil {
		return cfg, err
	}
	if f.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	return cfg, cfg.validate()
}

func (cfg *config) addOther(value string) error {
	name, command, ok := strings.Cut(value, "=")
	if !ok || name == "" || !strings.Contains(command, "{addr}") {
		return errors.New("want NAME=COMMAND with {addr} in the command")
	}
	cfg.others = append(cfg.others, other{name, command})
	return nil
}

// Limits of a run, which shares the machine with the server that it measures.
const (
	maxPairs  = 1000
	maxCount  = 1_000_000
	maxSize   = 1 << 20
	maxRounds = 1000
)

func (cfg *config) validate() error {
	for _, n := range []struct {
		flag       string
		value, max int
	}{
		{"pairs", cfg.pairs, maxPairs}, {"count", cfg.count, maxCount},
		{"size", cfg.size, maxSize}, {"rounds", cfg.rounds, maxRounds},
	} {
		if n.value < 1 || n.value > n.max {
			return fmt.Errorf("-%s %d: want 1 to %d", n.flag, n.value, n.max)
		}
	}
	if cfg.count < cfg.pairs {
		return fmt.Errorf("-count %d: want at least one message for each of %d pairs", cfg.count, cfg.pairs)
	}
	for _, s := range []string{cfg.scheme, cfg.bare} {
		if s != "" && s != "http" && s != "https" {
			return fmt.Errorf("scheme %q: want http or https", s)
		}
	}
	if cfg.url != "" {
		return cfg.validateURL()
	}
	return nil
}

// validateURL accepts only loopback addresses: load on another machine would be an
// attack.
func (cfg *config) validateURL() error {
	u, err := url.Parse(cfg.url)
	if err != nil {
		return fmt.Errorf("-url: %w", err)
	}
	ip := net.ParseIP(u.Hostname())
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("-url %s: want http:// or https://", cfg.url)
	case ip.To4() == nil || !ip.IsLoopback():
		return fmt.Errorf("-url %s: want an address in 127.0.0.0/8; this tool does not load other machines", cfg.url)
	case u.Port() == "":
		return fmt.Errorf("-url %s: want a port", cfg.url)
	case len(cfg.others) > 0 || cfg.maxRatio > 0:
		return errors.New("-url cannot be combined with -other or -max-ratio")
	}
	cfg.scheme, cfg.url = u.Scheme, u.Host
	return nil
}

func (cfg *config) schemes() []string {
	if cfg.scheme != "" {
		return []string{cfg.scheme}
	}
	return []string{"http", "https"}
}
