package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
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
	transportList              string
	transports                 []transport // of transportList
	others                     []other
	bare                       string

	peers, messages int
	settle, flood   time.Duration
	pace            int
	maxRSS          int64
	program         string
}

// other is the command line of another server to measure. {addr} stands for its address, {port} for
// the port of that, and {https} for whether it must use TLS.
type other struct {
	name, command string
	transport     transport
}

func parse(args []string, logs io.Writer) (cfg config, err error) {
	f := flag.NewFlagSet("load", flag.ContinueOnError)
	f.SetOutput(logs)
	f.IntVar(&cfg.pairs, "pairs", 16, "number of concurrent pairs of peers, each with its own source address")
	f.IntVar(&cfg.count, "count", 1000, "messages per round")
	f.IntVar(&cfg.size, "size", 1500, "message size in bytes")
	f.IntVar(&cfg.rounds, "rounds", 60, "rounds per server")
	f.DurationVar(&cfg.duration, "duration", 2*time.Minute, "maximum duration of the rounds per scheme")
	f.StringVar(&cfg.scheme, "scheme", "", "scheme, http or https (default both)")
	f.StringVar(&cfg.transportList, "transports", "poll", "comma-separated transports of this server: poll, poll-h2, sse, sse-h2, ws, peerjs, or all")
	f.BoolVar(&cfg.acknowledge, "after", false, "acknowledge messages of polls with ?after=; streams always acknowledge")
	f.Float64Var(&cfg.maxRatio, "max-ratio", 0, "maximum ratio of the server's CPU time to the bare handler's; exit 1 if exceeded (0: no limit)")
	f.StringVar(&cfg.url, "url", "", "loopback URL of a running server to measure, without any other")
	f.IntVar(&cfg.pid, "pid", 0, "process ID of the server at -url, to measure its CPU time (0: not measured)")
	f.StringVar(&cfg.serverFlags, "server-flags", "", "space-separated flags of the server (default \""+relayFlags+
		"\", whose limits are counted but never reached; with -peers none)")
	f.StringVar(&cfg.program, "program", "", "path of the server's program (default: built from this repository)")
	f.Func("other", "another server as 'NAME=COMMAND' or 'NAME/TRANSPORT=COMMAND', with {addr} for its address and {https} for true or false (repeatable)",
		cfg.addOther)
	f.Func("peerserver", "command of PeerServer with {port}, as in 'node peerjs.js --host 127.0.0.1 --port {port}' (HTTP only)",
		func(command string) error { return cfg.addServer("PeerServer", peerServer, command) })
	f.Func("y-webrtc", "command of y-webrtc's server with {port}, as in 'env PORT={port} node server.js' (HTTP only), to compare with -compat topics",
		func(command string) error { return cfg.addServer("y-webrtc", yWebRTC, command) })
	f.IntVar(&cfg.peers, "peers", 0, "measure memory: number of peers that stay connected, instead of relaying")
	f.IntVar(&cfg.messages, "messages", 20, "messages that each of -peers sends")
	f.IntVar(&cfg.pace, "pace", 2000, "messages per second that -peers send, all together")
	f.Int64Var(&cfg.maxRSS, "max-rss", 0, "maximum memory of the server in bytes with -peers; exit 1 if exceeded (0: no limit)")
	f.DurationVar(&cfg.settle, "settle", time.Minute, "time after the last message of -peers until memory is read")
	f.DurationVar(&cfg.flood, "flood", 0, "duration of a flood of other clients after -settle; -peers must stay connected")
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
	over := poll
	if _, named, found := strings.Cut(name, "/"); found {
		over = transport(named)
	}
	if !slices.Contains(ownTransports, over) {
		return fmt.Errorf("unknown transport %q", over)
	}
	cfg.others = append(cfg.others, other{name, command, over})
	return nil
}

func (cfg *config) addServer(name string, t transport, command string) error {
	if !strings.Contains(command, "{port}") {
		return errors.New("want a command with {port}")
	}
	cfg.others = append(cfg.others, other{name, command, t})
	return nil
}

// compares reports whether another server is measured over a transport.
func (cfg *config) compares(t transport) bool {
	return slices.ContainsFunc(cfg.others, func(o other) bool { return o.transport == t })
}

// relayFlags lift the limits on requests: a few pairs send as fast as they can.
const relayFlags = "-rate 1000000 -burst 1000000 -conn-rate 0"

// transportsOver returns the transports to measure that exist over TLS, or without it.
func (cfg *config) transportsOver(https bool) (over []transport) {
	for _, t := range cfg.transports {
		if https || !t.needsTLS() {
			over = append(over, t)
		}
	}
	return over
}

func (cfg *config) parseTransports() error {
	if cfg.transportList == "all" {
		cfg.transports = ownTransports
		return nil
	}
	for name := range strings.SplitSeq(cfg.transportList, ",") {
		if !slices.Contains(ownTransports, transport(name)) {
			return fmt.Errorf("-transports: unknown transport %q", name)
		}
		cfg.transports = append(cfg.transports, transport(name))
	}
	return nil
}

// Limits of a run, which shares the machine with the server that it measures.
const (
	maxPairs  = 1000
	maxCount  = 1_000_000
	maxSize   = 1 << 20
	maxRounds = 1000
	maxPeers  = 100_000
	maxSettle = 10 * time.Minute
)

func (cfg *config) validate() error {
	for _, n := range []struct {
		flag       string
		value, max int
	}{
		{"pairs", cfg.pairs, maxPairs}, {"count", cfg.count, maxCount},
		{"size", cfg.size, maxSize}, {"rounds", cfg.rounds, maxRounds},
		{"peers", cmp.Or(cfg.peers, 1), maxPeers}, {"messages", cfg.messages, maxCount},
		{"pace", cfg.pace, maxCount},
	} {
		if n.value < 1 || n.value > n.max {
			return fmt.Errorf("-%s %d: want 1 to %d", n.flag, n.value, n.max)
		}
	}
	if cfg.count < cfg.pairs {
		return fmt.Errorf("-count %d: want at least one message for each of %d pairs", cfg.count, cfg.pairs)
	}
	if cfg.settle < 0 || cfg.settle > maxSettle || cfg.flood < 0 || cfg.flood > maxSettle {
		return fmt.Errorf("-settle and -flood: want at most %v", maxSettle)
	}
	if err := cfg.parseTransports(); err != nil {
		return err
	}
	if cfg.serverFlags == "" && cfg.peers == 0 {
		cfg.serverFlags = relayFlags
	}
	for _, s := range []string{cfg.scheme, cfg.bare} {
		if s != "" && s != "http" && s != "https" {
			return fmt.Errorf("scheme %q: want http or https", s)
		}
	}
	if cfg.peers > 0 && (cfg.peers%2 != 0 || cfg.size < 16) {
		return errors.New("-peers: want pairs, and messages of at least 16 bytes, which hold the time")
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
	case len(cfg.others) > 0 || cfg.maxRatio > 0 || cfg.peers > 0:
		return errors.New("-url cannot be combined with other servers, -max-ratio or -peers")
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
