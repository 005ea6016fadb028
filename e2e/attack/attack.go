// Package attack attacks the real server and measures how it stands it. Each
// attack starts a server of its own, keeps a good client busy on another
// address meanwhile, and is over in seconds. Afterwards the server must be as it
// was: its memory given back, its files and goroutines gone, and a real call must
// connect through it.
//
//	go test -v ./attack                         all, on a small machine's memory
//	ATTACK=rapid go test -v ./attack            those whose name matches
//	ATTACK_LONG=1 go test -v -timeout 20m ./attack   all, for longer, and on two sizes of memory
//
// All traffic stays on loopback: addresses in 127.0.0.0/8 stand for as many
// strangers, and X-Forwarded-For from a trusted proxy for thousands more. It
// needs Linux, for /proc.
package attack

import (
	"context"
	"time"
)

// attack is one thing that strangers may try.
type attack struct {
	name string
	// flags are given to the server besides the usual ones.
	flags []string
	// memory is the server's -max-memory; zero is that of the run.
	memory int64
	// slow is for those that mostly wait: they run beside others.
	slow bool
	// timeout ends an attack that hangs; zero is a minute.
	timeout time.Duration
	// run attacks, notes figures and says what went wrong.
	run func(ctx context.Context, s *scenario)
}

// attacks is everything that is tried.
func attacks(extended bool) []attack {
	seconds := time.Duration(1)
	if extended {
		seconds = 5
	}
	// The first measures times. After it come those whose memory takes longest to
	// come back.
	return []attack{
		{name: "request flood, one address", timeout: 4 * time.Minute, run: requestFlood(4 * int(seconds))},
		{name: "small answers never read", run: unreadResponses},
		{name: "bodies that nobody reads", run: unreadBodies},
		{name: "connections left with open requests", run: abandonedConns(5 * seconds * time.Second)},
		{name: "request flood, 10,000 addresses", flags: behindProxy, run: distributedFlood(10_000)},
		{name: "connection flood", run: connectionFlood(2 * seconds * time.Second)},
		{name: "TLS handshake flood", run: handshakeFlood(2 * seconds * time.Second)},
		{name: "recorded hellos, one address", run: replayedHellos(20 * int(seconds))},
		{name: "hoarding, one address", flags: shortInboxTimeout, run: exhaustOneAddr},
		{name: "hoarding, 100 addresses, 1 GiB machine", flags: shortInboxTimeout, memory: 768 << 20, run: exhaustManyAddrs(1 << 20)},
		{name: "hoarding, 100 addresses", flags: shortInboxTimeout, run: exhaustManyAddrs(1 << 20)},
		{name: "half-sent bodies of 1 MiB", run: halfBodies},
		{name: "many header fields", run: manyFields},
		{name: "polls at once", run: manyPolls},
		{name: "rapid reset", run: measureFlood("resets", 2*seconds*time.Second)},
		{name: "PING flood", run: measureFlood("pings", 2*seconds*time.Second)},
		{name: "PING flood, never read", run: pingsUnread},
		{name: "SETTINGS flood", run: measureFlood("settings", 2*seconds*time.Second)},
		{name: "records of one byte", run: measureFlood("records", 2*seconds*time.Second)},
		{name: "CONTINUATION flood", run: continuationFlood},
		{name: "oversize everything", run: oversize},
		{name: "request smuggling", flags: overHTTP, run: smuggling},
		{name: "wrong passwords", run: passwordGuessing},
		{name: "spoofed forwarding fields", flags: behindProxy, run: spoofing},
		{name: "random bytes, TLS port", slow: true, run: randomBytes},
		{name: "random bytes, plain port", slow: true, flags: overHTTP, run: randomBytes},
		{name: "half-closed connections", slow: true, run: halfClosed},
		{name: "slow headers", slow: true, run: slowHeaders},
		{name: "slow bodies", slow: true, run: slowBodies},
		{name: "large answers never read", slow: true, flags: largeMessages, memory: 768 << 20, run: slowReaders},
		{name: "mailboxes deleted while read", flags: largeMessages, memory: 768 << 20, run: deletedWhileRead},
	}
}

var (
	overHTTP    = []string{"-https=false"}
	behindProxy = []string{"-trusted-proxies", "127.0.0.1"}
	// largeMessages do not fit into what the kernel keeps of an answer.
	largeMessages = []string{"-max-body-size", "8388608", "-inbox-timeout", "40"}
	// shortInboxTimeout gives back what is hoarded within the minute.
	shortInboxTimeout = []string{"-inbox-timeout", "15"}
)
