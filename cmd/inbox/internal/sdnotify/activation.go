package sdnotify

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// Names that socket units give to the sockets passed to the service
// (FileDescriptorName=).
const (
	HTTPS   = "https"
	HTTP    = "http"
	Metrics = "metrics"
)

const (
	listenFDsStart = 3  // SD_LISTEN_FDS_START, after standard input, output and error
	maxListenFDs   = 16 // more than there are names; rejects a nonsensical number
)

// Sockets has the listeners passed by the service manager, by name.
type Sockets map[string]net.Listener

// TakeSockets returns the sockets passed to this process and removes the
// variables from the process's environment, so that no child inherits them. Its
// error says what the socket unit must contain; all sockets are closed then.
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

// listenFDNames returns the names of the descriptors in order, none when they are
// for another process.
func listenFDNames(getenv func(name string) string, pid int) ([]string, error) {
	count := getenv("LISTEN_FDS")
	if count == "" || getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxListenFDs {
		return nil, fmt.Errorf("LISTEN_FDS=%s: want 0 to %d sockets from the service manager", count, maxListenFDs)
	}
	if n == 0 {
		return nil, nil
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	if len(names) != n {
		return nil, fmt.Errorf("the service manager passed %d sockets with %d names: set FileDescriptorName= in each socket unit", n, len(names))
	}
	return names, nil
}

func (s Sockets) add(fd int, name string) error {
	switch name {
	case HTTPS, HTTP, Metrics:
	default:
		return fmt.Errorf("the service manager passed a socket named %q: set FileDescriptorName= of its unit to https, http or metrics", name)
	}
	if s[name] != nil {
		return fmt.Errorf("the service manager passed two sockets named %s: keep one ListenStream= (a port without an address serves IPv4 and IPv6)", name)
	}
	f := os.NewFile(uintptr(fd), name)
	if f == nil {
		return fmt.Errorf("the service manager passed no descriptor %d (%s)", fd, name)
	}
	defer f.Close() // the listener has a duplicate, closed on exec
	if !isListening(uintptr(fd)) {
		return fmt.Errorf("descriptor %d (%s) from the service manager is not a listening socket: its unit must have ListenStream= and Accept=no", fd, name)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("descriptor %d (%s) from the service manager is not a TCP or Unix stream socket: %w", fd, name, err)
	}
	s[name] = l
	return nil
}

// Close closes all listeners.
func (s Sockets) Close() {
	for _, l := range s {
		l.Close()
	}
}
