package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
)

// Sockets that the service manager opened and passes on (socket activation),
// by the names that its units give them.
const (
	socketHTTPS   = "https"
	socketHTTP    = "http"
	socketMetrics = "metrics"
)

const (
	firstPassed = 3  // SD_LISTEN_FDS_START, after standard input, output and error
	maxPassed   = 16 // more than the names there are; a number that makes no sense is refused
)

// passed are the sockets that a service manager passed on, by name.
type passed map[string]net.Listener

// takePassed takes over the sockets that the environment tells of, if it means
// this process, and forgets what it told, so that no child believes it is meant.
func takePassed(environ []string) (passed, error) {
	names, err := passedNames(environ, os.Getpid())
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	if err != nil {
		return nil, err
	}
	p := passed{}
	for i, name := range names {
		if err := p.take(firstPassed+i, name); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

// passedNames are the names of the descriptors, from the first on.
func passedNames(environ []string, pid int) ([]string, error) {
	count := variable(environ, "LISTEN_FDS")
	if count == "" || variable(environ, "LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxPassed {
		return nil, fmt.Errorf("LISTEN_FDS=%s: the service manager must pass from 0 to %d sockets", count, maxPassed)
	}
	if n == 0 {
		return nil, nil
	}
	names := strings.Split(variable(environ, "LISTEN_FDNAMES"), ":")
	if len(names) != n {
		return nil, fmt.Errorf("the service manager passed %d sockets with %d names; give each socket unit a FileDescriptorName=", n, len(names))
	}
	return names, nil
}

func (p passed) take(fd int, name string) error {
	switch name {
	case socketHTTPS, socketHTTP, socketMetrics:
	default:
		return fmt.Errorf("the service manager passed a socket named %q; its unit must have FileDescriptorName=https, http or metrics", name)
	}
	if p[name] != nil {
		return fmt.Errorf("the service manager passed two sockets named %s; leave one ListenStream= (port 443 without an address is for IPv4 and IPv6)", name)
	}
	f := os.NewFile(uintptr(fd), name)
	if f == nil {
		return fmt.Errorf("the service manager passed no descriptor %d (%s)", fd, name)
	}
	defer f.Close() // the listener has a copy, which no child inherits
	if !isListening(uintptr(fd)) {
		return fmt.Errorf("descriptor %d (%s) from the service manager is no listening socket; its unit must have ListenStream= and Accept=no", fd, name)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("descriptor %d (%s) from the service manager is no stream socket of TCP or Unix: %w", fd, name, err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the path is the service manager's, for the next process, too
	}
	p[name] = l
	return nil
}

func (p passed) close() {
	for _, l := range p {
		l.Close()
	}
}

// doors sorts the sockets into doors. What listens instead of -bind is found
// by what it speaks: plain HTTP never goes out through a socket named https.
func (p passed) doors(c *config, log *slog.Logger) (d doors, err error) {
	d.metrics = p[socketMetrics]
	if p[socketHTTPS] == nil && p[socketHTTP] == nil {
		return d, nil
	}
	if d.main, d.plain = p[socketHTTPS], p[socketHTTP]; !c.https {
		d.main, d.plain = p[socketHTTP], nil
		if p[socketHTTPS] != nil {
			return d, errors.New("the service manager passed a socket named https, but -https=false: stop and mask that socket unit, or name it http (FileDescriptorName=http)")
		}
	}
	if d.main == nil {
		return d, errors.New("the service manager passed a socket named http alone, and the server speaks HTTPS: " +
			"pass one with FileDescriptorName=https, too, or give -https=false")
	}
	if d.plain != nil && len(c.domains) == 0 {
		log.Warn("without -domain the http socket leads nobody to HTTPS: all requests there are refused")
	}
	for _, option := range []string{"bind", "http-bind"} {
		if c.from[option] != "" {
			log.Warn("sockets of the service manager serve, so -"+option+" counts for nothing", "from", c.from[option])
		}
	}
	return d, nil
}
