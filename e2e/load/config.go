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

// config is what the command line asks for.
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

// other is another mailbox server to measure, as a command line in which
// {addr} stands for where it listens and {https} for whether it speaks TLS.
type other struct{ name, command string }

func parse(args []string, logs io.Writer) (cfg config, err error) {
	f := flag.NewFlagSet("load", flag.ContinueOnError)
	f.SetOutput(logs)
	f.IntVar(&cfg.pairs, "pairs", 16, "pairs of peers that relay at once, each on an address of its own")
	f.IntVar(&cfg.count, "count", 1000, "messages in a round")
	f.IntVar(&cfg.size, "size", 1500, "bytes of a message")
	f.IntVar(&cfg.rounds, "rounds", 60, "rounds for each server")
	f.DurationVar(&cfg.duration, "duration", 2*time.Minute, "the most that the rounds over http, and over https, may take")
	f.StringVar(&cfg.scheme, "scheme", "", "http or https only (default both)")
	f.BoolVar(&cfg.acknowledge, "after", false, "acknowledge messages with ?after=, as careful clients do")
	f.Float64Var(&cfg.maxRatio, "max-ratio", 0, "fail when the server costs more than so many times the bare handler (0: report only)")
	f.StringVar(&cfg.url, "url", "", "measure the server that runs at this loopback address, and no other")
	f.IntVar(&cfg.pid, "pid", 0, "with -url: the server's process, to read its CPU time (0: not measured)")
	f.StringVar(&cfg.serverFlags, "server-flags", "-rate 1000000 -burst 1000000 -conn-rate 0",
		"flags for the server, separated by spaces; by default the limits count, and refuse nothing")
	f.Func("other", "another server, as 'NAME=COMMAND'; {addr} in it is where to listen, {https} true or false (repeatable)", cfg.addOther)
	f.StringVar(&cfg.bare, "bare", "", "be the bare handler, over http or https (the tool calls itself with it)")
	if err := f.Parse(args); err != nil {
		return cfg, err
	}
	if f.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q: only flags are understood", f.Arg(0))
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

// The most that a run may ask for: it shares the machine with what it measures.
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

// validateURL refuses every address that is not on this machine: a load tool
// on someone else's server is an attack.
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
		return fmt.Errorf("-url %s: want an address in 127.0.0.0/8 and nothing else; this tool never loads another machine", cfg.url)
	case u.Port() == "":
		return fmt.Errorf("-url %s: want a port", cfg.url)
	case len(cfg.others) > 0 || cfg.maxRatio > 0:
		return errors.New("-url stands alone: there is nothing to compare with -other or -max-ratio")
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
