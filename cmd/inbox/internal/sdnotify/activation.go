package sdnotify

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// The names that units give sockets which the service manager opened and passes
// on (socket activation).
const (
	HTTPS   = "https"
	HTTP    = "http"
	Metrics = "metrics"
)

const (
	listenFDsStart = 3  // SD_LISTEN_FDS_START, after standard input, output and error
	maxListenFDs   = 16 // more than the names there are; a number that makes no sense is refused
)

// Sockets are those that a service manager passed on, by name.
type Sockets map[string]net.Listener

// TakeSockets takes over the sockets that the environment tells of, if it means
// this process, and forgets what it told, so that no child believes it is meant.
// On an error, which says what the unit must have, none stays open.
func TakeSockets(getenv func(name string) string) (Sockets, error) {
	names, err := listenFDNames(getenv, os.Getpid())
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	if err != nil {
		return nil, err
	}
	s := Sockets{}
	for i, name := range names {
		if err := s.add(listenFDsStart+i, name); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// listenFDNames are the names of the descriptors, from the first on.
func listenFDNames(getenv func(name string) string, pid int) ([]string, error) {
	count := getenv("LISTEN_FDS")
	if count == "" || getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxListenFDs {
		return nil, fmt.Errorf("LISTEN_FDS=%s: the service manager must pass from 0 to %d sockets", count, maxListenFDs)
	}
	if n == 0 {
		return nil, nil
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	if len(names) != n {
		return nil, fmt.Errorf("the service manager passed %d sockets with %d names; give each socket unit a FileDescriptorName=", n, len(names))
	}
	return names, nil
}

func (s Sockets) add(fd int, name string) error {
	switch name {
	case HTTPS, HTTP, Metrics:
	default:
		return fmt.Errorf("the service manager passed a socket named %q; its unit must have FileDescriptorName=https, http or metrics", name)
	}
	if s[name] != nil {
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
	s[name] = l
	return nil
}

// Close closes them all.
func (s Sockets) Close() {
	for _, l := range s {
		l.Close()
	}
}
