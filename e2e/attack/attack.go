// Package attack attacks the real server and measures the effects. Each attack starts its
// own server and takes seconds, while a good client uses the server from another address.
// Afterwards the server must have released its memory, files and goroutines, and a real
// call must connect through it.
//
//	go test -v ./attack                              all, with the memory of a small machine
//	ATTACK=rapid go test -v ./attack                 attacks whose name matches
//	ATTACK_LONG=1 go test -v -timeout 20m ./attack   all, for longer, with two memory limits
//
// All traffic stays on loopback: each address in 127.0.0.0/8 is a client, and
// X-Forwarded-For from a trusted proxy adds thousands more. The package requires Linux,
// for /proc.
package attack

import (
	"context"
	"slices"
	"time"
)

// Memory limits, which the server selects on machines with 341 MiB, 512 MiB and 1 GiB.
const (
	tinyMemory  = 256 << 20
	smallMemory = 384 << 20
	largeMemory = 768 << 20
)

// attack is one kind of attack.
type attack struct {
	name string
	// flags are additional options of the server.
	flags []string
	// memory is the server's -max-memory in bytes; zero selects the default of the run.
	memory int64
	// files is the limit of open files; zero is that of the test. The pages are then those of
	// a directory.
	files int
	// slow marks an attack that mostly waits: it runs in parallel with others.
	slow bool
	// measuresLatency marks an attack that must have the machine to itself.
	measuresLatency bool
	// timeout ends an attack that hangs; zero selects a minute.
	timeout time.Duration
	// run makes the attack and reports figures and failures.
	run func(ctx context.Context, s *scenario)
}

// attacks returns all attacks. extended selects longer ones.
func attacks(extended bool) []attack {
	seconds := time.Duration(1)
	if extended {
		seconds = 5
	}
	// Those whose memory takes longest to be released come first.
	return append([]attack{
		{name: "request flood, one address", measuresLatency: true, timeout: 4 * time.Minute, run: requestFlood(oneFlooder, 4*int(seconds))},
		{name: "request flood, 50 networks", measuresLatency: true, timeout: 4 * time.Minute, run: requestFlood(networkFlooder, 4*int(seconds))},
		{name: "small responses never read", run: unreadResponses},
		{name: "pages never read over HTTP/2, three addresses", run: stalledStreams(3, 10*seconds*time.Second)},
		{name: "pages never read over HTTP/2, 8 addresses", run: stalledStreams(8, 10*seconds*time.Second)},
		{name: "bodies of waiting polls", run: unreadBodies},
		{name: "connections closed with open requests", run: abandonedConns(5 * seconds * time.Second)},
		{name: "request flood, 10,000 addresses", flags: behindProxy, run: distributedFlood(10_000)},
		{name: "connection flood", run: connectionFlood(2 * seconds * time.Second)},
		{name: "TLS handshake flood", run: handshakeFlood(2 * seconds * time.Second)},
		{name: "replayed ClientHellos, one address", run: replayedHellos(20 * int(seconds))},
		{name: "queue exhaustion, one address", flags: shortInboxTimeout, run: exhaustOneAddr},
		{name: "queue exhaustion, 100 addresses, 1 GiB machine", flags: shortInboxTimeout, memory: 768 << 20, run: exhaustManyAddrs(1 << 20)},
		{name: "queue exhaustion, 100 addresses", flags: shortInboxTimeout, run: exhaustManyAddrs(256 << 10)},
		{name: "name exhaustion, 100 addresses", flags: fewNames, run: exhaustNames(100, ipv4Clients)},
		{name: "name exhaustion, seven networks", flags: fewNames, run: exhaustNames(700, clientsOfSevenNetworks)},
		{name: "incomplete bodies of 1 MiB", run: halfBodies},
		{name: "many header fields", run: manyFields},
		{name: "unfinished headers of short fields", memory: tinyMemory, run: unfinished(extended, headerOf(fieldsOfFiveBytes))},
		{name: "unfinished headers of distinct fields", memory: tinyMemory, run: unfinished(extended, headerOf(distinctFields()))},
		{name: "unfinished headers behind a request", memory: tinyMemory, run: unfinished(extended, headerOf("GET /healthz HTTP/1.1\nHost: a\n\n"+distinctFields()))},
		{name: "unfinished ClientHellos", memory: tinyMemory, run: unfinished(extended, helloWithoutEnd)},
		{name: "unfinished HTTP/2 headers", memory: tinyMemory, run: unfinished(extended, framesWithoutEnd)},
		{name: "unfinished HTTP/2 frames of 1 MiB", memory: tinyMemory, run: unfinished(extended, largeFrames)},
		{name: "connection flood through a proxy", flags: append(overHTTP, proxyProtocol...), memory: tinyMemory, run: floodThroughProxy},
		{name: "open files", files: 1024, timeout: 2 * time.Minute, run: exhaustFiles},
		{name: "concurrent polls", run: manyPolls},
		{name: "rapid reset", run: measureFlood("resets", 2*seconds*time.Second)},
		{name: "PING flood", run: measureFlood("pings", 2*seconds*time.Second)},
		{name: "PING flood, responses never read", run: pingsUnread},
		{name: "SETTINGS flood", run: measureFlood("settings", 2*seconds*time.Second)},
		{name: "TLS records of one byte", run: measureFlood("records", 2*seconds*time.Second)},
		{name: "CONTINUATION flood", run: continuationFlood},
		{name: "oversized requests", run: oversize},
		{name: "request smuggling", flags: overHTTP, run: smuggling},
		{name: "wrong passwords", run: passwordGuessing},
		{name: "spoofed forwarding fields", flags: behindProxy, run: spoofing},
		{name: "random bytes, TLS port", slow: true, run: randomBytes},
		{name: "random bytes, plain port", slow: true, flags: overHTTP, run: randomBytes},
		{name: "half-closed connections", slow: true, run: halfClosed},
		{name: "slow headers", slow: true, run: slowHeaders},
		{name: "slow bodies", slow: true, run: slowBodies},
		{name: "refused bodies", slow: true, run: refusedBodies},
		{name: "large responses never read", slow: true, flags: largeMessages, memory: 1536 << 20, run: slowReaders},
		{name: "mailboxes deleted during delivery", flags: largeMessages, memory: 768 << 20, run: deletedWhileRead},
	}, slices.Concat(eventAttacks(seconds), webSocketAttacks(seconds), turnAttacks(seconds), topicAttacks(seconds), peerjsAttacks(seconds))...)
}

// turnAttacks returns the attacks on the relay.
func turnAttacks(seconds time.Duration) []attack {
	return []attack{
		{name: "TURN: frames of 64 KiB, byte by byte", run: dripFrames(3 * seconds * time.Second)},
		{name: "TURN: malformed frames", run: malformedFrames},
		{name: "TURN: 20,000 permissions, 4,095 channels", run: manyPermissions},
		{name: "TURN: foreign peers", slow: true, run: foreignPeersRefused},
		{name: "TURN: greedy allocation", run: greedyAllocation(3 * seconds * time.Second)},
		{name: "TURN: streams without an allocation", slow: true, timeout: 3 * time.Minute, run: silentStreams},
		{name: "TURN: one address uses up the month", slow: true, flags: []string{"-turn-month", "1"}, timeout: 3 * time.Minute, run: exhaustMonth},
	}
}

var (
	overHTTP    = []string{"-https=false"}
	behindProxy = []string{"-trusted-proxies", "127.0.0.1"}
	// fewNames lets addresses claim all names within their budget of new names.
	fewNames = append([]string{"-max-inboxes", "4000", "-inbox-timeout", "15"}, behindProxy...)
	// largeMessages allows messages that exceed the kernel's socket buffers.
	largeMessages = []string{"-max-body-size", "8388608", "-inbox-timeout", "40"}
	// shortInboxTimeout releases the queued messages within recoveryTimeout.
	shortInboxTimeout = []string{"-inbox-timeout", "15"}
)
