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
	TURN    = "turn"
)

const (
	listenFDsStart = 3  // SD_LISTEN_FDS_START, after standard input, output and error
	maxListenFDs   = 16 // more than there are names; rejects a nonsensical number
)

// Sockets has the sockets passed by the service manager, by name.
type Sockets struct {
	Listeners map[string]net.Listener // of HTTPS, HTTP and Metrics
	Datagrams map[string]*net.UDPConn // of TURN
}

// TakeSockets returns the sockets passed to this process and removes the
// variables from the process's environment, so that no child inherits them. Its
// error says what the socket unit must contain; all sockets are closed then.
func TakeSockets(getenv func(name string) string) (Sockets, error) {
	names, err := listenFDNames(getenv, os.Getpid())
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	if err != nil {
		return Sockets{}, err
	}
	s := Sockets{map[string]net.Listener{}, map[string]*net.UDPConn{}}
	for i, name := range names {
		if err := s.add(listenFDsStart+i, name); err != nil {
			s.Close()
			return Sockets{}, err
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
	add, directive := s.addListener, "ListenStream="
	switch name {
	case HTTPS, HTTP, Metrics:
	case TURN:
		add, directive = s.addDatagram, "ListenDatagram="
	default:
		return fmt.Errorf("the service manager passed a socket named %q: set FileDescriptorName= of its unit to https, http, metrics or turn", name)
	}
	if s.Listeners[name] != nil || s.Datagrams[name] != nil {
		return fmt.Errorf("the service manager passed two sockets named %s: keep one %s (a port without an address serves IPv4 and IPv6)", name, directive)
	}
	f := os.NewFile(uintptr(fd), name)
	if f == nil {
		return fmt.Errorf("the service manager passed no descriptor %d (%s)", fd, name)
	}
	defer f.Close() // the socket has a duplicate, closed on exec
	return add(f, name)
}

func (s Sockets) addListener(f *os.File, name string) error {
	if !isListening(f.Fd()) {
		return fmt.Errorf("descriptor %d (%s) from the service manager is not a listening socket: its unit must have ListenStream= and Accept=no", f.Fd(), name)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("descriptor %d (%s) from the service manager is not a TCP or Unix stream socket: %w", f.Fd(), name, err)
	}
	s.Listeners[name] = l
	return nil
}

func (s Sockets) addDatagram(f *os.File, name string) error {
	c, err := net.FilePacketConn(f)
	udp, isUDP := c.(*net.UDPConn)
	if err == nil && isUDP {
		s.Datagrams[name] = udp
		return nil
	}
	if c != nil {
		c.Close()
	}
	return fmt.Errorf("descriptor %d (%s) from the service manager is not a UDP socket: its unit must have ListenDatagram= with a port", f.Fd(), name)
}

// Close closes all sockets.
func (s Sockets) Close() {
	for _, l := range s.Listeners {
		l.Close()
	}
	for _, c := range s.Datagrams {
		c.Close()
	}
}
