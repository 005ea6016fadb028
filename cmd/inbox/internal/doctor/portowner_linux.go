package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// tcpListen is the state of a listening socket in /proc/net/tcp.
const tcpListen = "0A"

// findPortOwner finds the program that listens on a port: the kernel lists the
// sockets, and each process its own. Those of other users only root sees.
func findPortOwner(port string) (portOwner, bool) {
	sockets := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, _ := os.ReadFile(table) // absent without IPv6
		addListeners(sockets, string(text), port)
	}
	if len(sockets) == 0 {
		return portOwner{}, false
	}
	return ownerOf(sockets)
}

// ownerOf finds a process that has one of the sockets. systemd keeps those that
// it passed on, so it counts only when nobody else has them.
func ownerOf(sockets map[string]bool) (found portOwner, ok bool) {
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is a good one
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

// addListeners adds the sockets of a table that listen on the port, written as
// the links in /proc/PID/fd write them.
func addListeners(sockets map[string]bool, table, port string) {
	const local, state, inode = 1, 3, 9
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return
	}
	suffix := fmt.Sprintf(":%04X", n)
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) > inode && fields[state] == tcpListen && strings.HasSuffix(fields[local], suffix) {
			sockets["socket:["+fields[inode]+"]"] = true
		}
	}
}

// processOf names the process of /proc/PID/fd/N.
func processOf(file string) (portOwner, bool) {
	dir := filepath.Dir(filepath.Dir(file))
	pid, err := strconv.Atoi(filepath.Base(dir))
	if err != nil {
		return portOwner{}, false
	}
	name, err := os.ReadFile(filepath.Join(dir, "comm"))
	return portOwner{strings.TrimSpace(string(name)), pid}, err == nil
}
