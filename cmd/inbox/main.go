// Command inbox is a WebRTC signaling server. Peers exchange offers, answers and
// ICE candidates through named mailboxes until they are connected directly. It
// also serves pages that show a camera on another screen.
//
//	inbox [options]
//	inbox config [options]
//	inbox doctor [options]
//	inbox health [options]
//	inbox help [topic]
//	inbox invite [options]
//	inbox setup [options]
//	inbox status [options]
//	inbox version
//
// Without options it listens on port 3000 of all addresses, over HTTPS, and
// prints the links to open. It uses the certificate server.crt with the key
// server.key in the working directory if they exist. Otherwise it generates a
// self-signed certificate and keeps it in the state directory.
//
// Each option can be set in several places, in this order of precedence:
//
//	command line     -inbox-timeout 120
//	environment      INBOX_INBOX_TIMEOUT=120
//	-env-file        INBOX_INBOX_TIMEOUT=120
//	-config file     inbox-timeout 120
//	default          shown by -h all
//
// The -config file contains one option per line: the name, a space and the value.
// Lines that begin with # are comments. Plain numbers are seconds, bytes, GB or
// Mbit/s; units such as 2m, 64MiB and 1Gbit/s are accepted. A limit of 0 means
// unlimited. The config command prints each value in force and its source.
//
// The state directory is set by -state. The default is the first directory of
// $STATE_DIRECTORY, which systemd sets, or else the user's state directory. It
// contains certificates, the secret that keys the password hashes and, while no
// server runs, the mailboxes.
//
// With -domain, certificates for the given names are obtained from a CA with
// ACME and renewed automatically. The server then listens on ports 443 and 80.
// SIGHUP reloads certificate files and retries due orders. The doctor checks
// whether a server with the same options would work, and exits with code 1 if
// it finds a problem.
//
// Sockets passed by systemd replace -bind and -http-bind if they are named https
// or http, and -metrics-bind if named metrics. The server notifies systemd when
// it is ready, reloads and stops, and supports the watchdog.
//
// The log is written to standard error. It never contains names, passwords,
// messages or complete addresses. In text format, a short introduction for
// terminals precedes it. If standard error is a terminal, the introduction has a QR code, and the
// lines of the log have short times and colours, unless NO_COLOR is set. If the reader of
// standard error ends or stops reading, log lines are lost and the server continues.
//
// On SIGTERM or SIGINT the server closes its listeners, answers waiting polls,
// allows ten seconds for requests, saves the mailboxes for the next start and exits
// with code 0. A second signal aborts them and saves at once; a third exits
// immediately with code 1. The exit code is 2 for an invalid option, and 1 if
// the server cannot start, fails while serving, or cannot save the mailboxes.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"inbox/cmd/inbox/internal/host"
	"inbox/cmd/inbox/internal/logging"
	"inbox/cmd/inbox/internal/server"
)

func main() {
	// The Go runtime would end the process when the reader of standard output or standard
	// error is gone, even if the parent process ignores the signal.
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := context.WithCancel(context.Background())
	forceStop := make(chan struct{})
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go handleSignals(signals, cancel, func() { close(forceStop) }, func() { os.Exit(exitFailure) })
	os.Exit(run(ctx, process{
		args:      os.Args[1:],
		environ:   os.Environ(),
		stdin:     os.Stdin,
		stdout:    os.Stdout,
		stderr:    logging.NewWriter(os.Stderr),
		columns:   host.TerminalColumns(os.Stderr),
		terminals: terminals{stdout: host.IsTerminal(os.Stdout), stderr: host.IsTerminal(os.Stderr)},
		timeouts:  server.DefaultTimeouts(),
		forceStop: forceStop,
	}))
}
