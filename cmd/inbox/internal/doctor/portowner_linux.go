package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// boundState is the state of a socket that is listening (TCP) or not connected (UDP) in the
// tables of /proc/net.
var boundState = map[string]string{"tcp": "0A", "udp": "07"}

// findPortOwner finds the program that uses a port of "tcp" or "udp": /proc/net lists
// the sockets, and /proc/PID/fd those of each process. Only root sees those of other
// users.
func findPortOwner(network, port string) (portOwner, bool) {
	sockets := map[string]bool{}
	for _, table := range []string{network, network + "6"} {
		text, _ := os.ReadFile("/proc/net/" + table) // tcp6 and udp6 are absent without IPv6
		addListeners(sockets, string(text), boundState[network], port)
	}
	if len(sockets) == 0 {
		return portOwner{}, false
	}
	return ownerOf(sockets)
}

// ownerOf finds a process that has one of the sockets open. systemd keeps the
// sockets that it passes to services, so other processes take precedence.
func ownerOf(sockets map[string]bool) (found portOwner, ok bool) {
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*") // fails only for a bad pattern
	for _, file := range files {
		target, err := os.Readlink(file)
		if err != nil || !sockets[target] {
			continue
		}
		if owner, isProcess := processOf(file); isProcess && (!ok || found.name == "systemd") {
			found, ok = owner, true
		}
	}
	return found, ok
}

// addListeners adds the sockets in a table that have the state and the port, in the
// form of the links in /proc/PID/fd.
func addListeners(sockets map[string]bool, table, bound, port string) {
	const local, state, inode = 1, 3, 9
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return
	}
	suffix := fmt.Sprintf(":%04X", n)
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) > inode && fields[state] == bound && strings.HasSuffix(fields[local], suffix) {
			sockets["socket:["+fields[inode]+"]"] = true
		}
	}
}

// processOf returns the process of a file /proc/PID/fd/N.
func processOf(file string) (portOwner, bool) {
	dir := filepath.Dir(filepath.Dir(file))
	pid, err := strconv.Atoi(filepath.Base(dir))
	if err != nil {
		return portOwner{}, false
	}
	name, err := os.ReadFile(filepath.Join(dir, "comm"))
	return portOwner{strings.TrimSpace(string(name)), pid}, err == nil
}
