// Command inbox is a WebRTC signaling server: peers leave each other offers,
// answers and ICE candidates in named mailboxes until they are connected
// directly. It serves pages that put a camera on another screen, too.
//
//	inbox [options]
//	inbox doctor [options]
//	inbox version
//
// Started without options it listens on port 3000 of every address, over
// HTTPS, and prints where to click. The certificate is server.crt with
// server.key of the working directory when they exist, else a self-signed one,
// which is made once and kept in the state directory.
//
// Every option can be given in four ways; the first that is found counts:
//
//	on the command line      -inbox-timeout 120
//	in the environment       INBOX_INBOX_TIMEOUT=120
//	in the file of -config   inbox-timeout 120
//	not at all               the default, which -h tells
//
// A file has one option a line, its name and its value apart by a space; lines
// that begin with # are comments. Durations are whole seconds, sizes bytes,
// and a limit of 0 is none.
//
// The state directory is that of -state, else the first of $STATE_DIRECTORY
// (which systemd sets), else the user's own. It holds the self-signed
// certificate, the secret under which passwords are hashed and, while no server
// runs, the mailboxes.
//
// With -domain, certificates for these names are obtained from a certificate
// authority and renewed; the server then listens on ports 443 and 80. SIGHUP
// reads certificate files again, and orders sooner what is due. The doctor looks for
// what would keep a server with the same options from working, and exits with
// 1 when it found something.
//
// Sockets that systemd passes replace -bind and -http-bind when they are named
// https or http, and -metrics-bind when metrics; systemd also hears when the
// server is ready, reloads and stops, and that it lives.
//
// The log goes to standard error, and never holds names, passwords, messages
// or whole addresses. In text format a few lines for a person precede it.
//
// On SIGTERM or SIGINT the server stops listening, answers held polls, gives
// posts ten seconds, saves the mailboxes for the next start and exits with 0. A
// second signal cuts the posts short, and saves; a third ends it at once, with 1.
// It exits with 2 when an option is wrong, with 1 when it could not start, go on,
// or save.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	forceStop := make(chan struct{})
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go handleSignals(signals, cancel, func() { close(forceStop) }, func() { os.Exit(exitFailure) })
	os.Exit(run(ctx, process{
		args:      os.Args[1:],
		environ:   os.Environ(),
		stdout:    os.Stdout,
		stderr:    os.Stderr,
		timeouts:  defaultTimeouts(),
		forceStop: forceStop,
	}))
}
