package help

const startText = `Try the server on this machine. Its certificate is self-signed, so browsers
warn once. It prints the links to open, and a QR code for a phone:

  inbox

Public server. Certificates are obtained and renewed automatically. Ports 80
and 443 (TCP) and 3478 (UDP) must be reachable. The e-mail address agrees to
the terms of Let's Encrypt:

  inbox -domain example.org -email me@example.org

Own certificate files, which are loaded again when they change:

  inbox -bind :443 -server-cert fullchain.pem -server-key privkey.pem

Behind a proxy on the same machine that terminates TLS:

  inbox -https=false -bind 127.0.0.1:3000 -trusted-proxies 127.0.0.1

Check options, ports and DNS before the first start:

  inbox doctor -domain example.org -email me@example.org

As a service, from the package, as root:

  inbox setup
`

const configText = `inbox config [OPTION...] prints each option with the value in force and the
source of the value. Passwords in URLs are masked. Warnings and errors are
printed to standard error. The exit code is 2 if the server would refuse the
options, and 0 otherwise.

The options of the service, as root:

  inbox config -env-file /etc/inbox/inbox.env -state /var/lib/inbox

Sources are the command line, an environment variable, a line of the -env-file
or the -config file, a socket of systemd, or the default.
`

const doctorText = `inbox doctor [OPTION...] checks whether a server with the same options works:
options, DNS, ports, files, the clock, certificates, the relay and the store.
It prints a fix for each problem. The exit code is 1 if it finds one.

Before the first start:

  inbox doctor -domain example.org -email me@example.org

With the options of the service, as root:

  inbox doctor -env-file /etc/inbox/inbox.env -state /var/lib/inbox
`

const healthText = `inbox health [OPTION...] asks a server on this machine whether it answers: it
requests /healthz at the address of -bind, over the loopback interface, or at
the socket that systemd holds. The certificate is not verified. The exit code
is 0 or 1, after at most three seconds.

Without options, it asks the server that runs on this machine, with the options
of that process. This is the health check of the container image.

The service, as root:

  inbox health -env-file /etc/inbox/inbox.env

A server that has no certificate yet is healthy, because it answers. /readyz
tells whether it is ready.
`

const inviteText = `inbox invite [OPTION...] makes, lists and revokes invitations to a private
server, which has -access invited. It runs beside the server, as root or as its
user, and the server notices a change within a second. Without further options,
it is the server that runs on this machine, or else the installed service:

  inbox invite -label anna
  inbox invite -label ben -for 7d
  inbox invite -list
  inbox invite -revoke anna
  inbox invite -revoke all

A new invitation is printed once, as a link, as a QR code and as a token for
programs. The server keeps only its SHA-256, in the state directory or in the
store. A label can have several invitations. Revoking ends the mailboxes that
were claimed with an invitation or with its guest passes. Relayed calls continue
until they end.

The exit code is 1 if the invitations cannot be changed, and 2 if an option is
wrong.
`

const setupText = `inbox setup [OPTION...] configures and starts the service of the package, as
root. It asks for the host name and the e-mail address, or takes -domain and
-email. Then the doctor checks the machine. If it finds no failure, setup writes
/etc/inbox/inbox.env, starts the service and waits up to three minutes for the
certificate. Other options are written, too. Other lines of the file stay as
they are, and a backup is kept beside it. It can be repeated:

  inbox setup
  inbox setup -domain example.org -email me@example.org

To see what it would do:

  inbox setup -domain example.org -email me@example.org -dry-run

It enables the metrics at 127.0.0.1:9091, unless INBOX_METRICS_BIND is set.

The exit code is 1 if the doctor finds a failure or a certificate is missing,
and 2 if the package is not installed or an option is wrong.
`

const statusText = `inbox status [OPTION...] prints the state of the server on this machine:
certificates, load, refusals, relay and the last warnings of the log. It asks
the listener of -metrics-bind, which a server without that option does not have.
The exit code is 0 if the server answers, 1 if it does not, and 2 without
-metrics-bind.

Without options, it asks the server that runs on this machine, or else the
installed service. With the options of another one:

  inbox status -metrics-bind 127.0.0.1:9092

Colours are used on a terminal only, and not if NO_COLOR is set. A browser shows
the same at the address of -metrics-bind, and a script reads it there at
/status.json.
`

const versionText = `inbox version, or inbox -version, prints one line: version, commit, time of the
commit, Go version and platform. It has no options.
`

const certificatesText = `With -domain, certificates are obtained from a CA with ACME and renewed
automatically. The CA connects to port 80 or 443. Without -domain, the server
uses the certificate files if they exist, or else a self-signed certificate.
`

const turnText = `Calls between some networks need a relay. It is on with HTTPS and needs UDP port
3478, and the port of -bind for TURN over TLS.
`

const limitsText = `Limits per address apply to an IPv4 address or an IPv6 /64. A limit of 0 is
unlimited. Sizes have units; see inbox help units.
`

const proxyText = `The proxy must be listed in -trusted-proxies, or all clients share the limits of
its address. docs/recipes.md has configurations for nginx, Caddy and HAProxy.
`

const unitsText = `A plain number is in the unit that the option names: -inbox-timeout 60 is 60
seconds, -max-body-size 1048576 is 1 MiB, -turn-month 1000 is 1000 GB, and
-turn-rate 100 is 100 Mbit/s. Other units follow the number without a blank:

  times      ns us ms s m h d       90s, 1h30m, 1d (24 hours)
  sizes      B kB MB GB             powers of 1000: 64kB is 64,000 bytes
             KiB MiB GiB            powers of 1024: 64KiB is 65,536 bytes
  bit rates  kbit/s Mbit/s Gbit/s   500kbit/s, 2Gbit/s

Times can have several units in descending order. They must be whole seconds.
Numbers are whole and not negative: 90m, not 1.5h.
`

const environmentText = `Each option has an environment variable: -inbox-timeout is INBOX_INBOX_TIMEOUT.
inbox help -NAME shows it. An option can be set in several places. The first
one found applies:

  command line    -inbox-timeout 2m
  environment     INBOX_INBOX_TIMEOUT=2m
  -env-file       INBOX_INBOX_TIMEOUT=2m
  -config file    inbox-timeout 2m
  default         as inbox -h all shows

An empty variable counts as absent. Unknown INBOX_ variables are logged with the
nearest name. Unknown lines in the -config file are errors. Comments begin with
# on lines of their own. inbox config shows where each value comes from.

Other variables:

  STATE_DIRECTORY  the state directory without -state; systemd sets it
  XDG_STATE_HOME   the user's state directory; without it, ~/.local/state
  HTTPS_PROXY      a proxy for requests to the CA
  TERM             dumb: no QR code and no colours
  NO_COLOR         any value: no colours
  NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS, JOURNAL_STREAM
                   set by systemd
`

const filesText = `Files of the service:

  /etc/inbox/inbox.env   options, as environment variables
  /var/lib/inbox         state directory
  /usr/share/doc/inbox   documentation
  /usr/share/inbox       drop-ins for systemd

The state directory is that of -state, or else the first of $STATE_DIRECTORY, or
else inbox in the user's state directory (~/.local/state on Linux). It contains
certificates, the secret of the password hashes, the traffic of the relay, the
invitations and, while no server runs, the mailboxes. It must be writable and
private.

In the working directory:

  server.crt, server.key   certificate and private key (PEM), if they exist
  public                   pages, instead of the built-in ones, if it exists
`

const signalsText = `  SIGTERM, SIGINT  stop: close the listeners, answer waiting polls, allow ten
                   seconds for requests, save the mailboxes, exit with code 0
  a second one     abort the requests and save at once
  a third one      exit immediately with code 1
  SIGHUP           load certificate files again, and retry due orders

Signals within one second count as one.
`

const exitText = `  0  stopped by a signal; or the command succeeded
  1  the server could not start, failed while serving, or could not save the
     mailboxes; the doctor or setup found a problem; the server is not healthy;
     no server answered inbox status; or invitations could not be changed
  2  a wrong command, option or value
`

const systemdText = `The package contains inbox.service and its sockets. Options are set in
/etc/inbox/inbox.env. Common commands:

  systemctl restart inbox   after a change of the options
  systemctl reload inbox    load certificate files again
  journalctl -u inbox       log

Sockets passed by systemd replace options by their FileDescriptorName=:

  https    -bind
  http     -http-bind; with -https=false, -bind
  metrics  -metrics-bind
  turn     -turn-bind (ListenDatagram=)

The server notifies systemd when it is ready, reloads and stops, and supports
the watchdog.
`

const allText = `Usage: inbox [COMMAND] [OPTION...]

Without a command, the server starts; inbox help lists the commands. Times,
sizes and bit rates can have units, such as 5m, 64MiB and 2Gbit/s; see inbox
help units. Every option can also be set in the environment (-inbox-timeout as
INBOX_INBOX_TIMEOUT) or in a file; see inbox help environment.
`
