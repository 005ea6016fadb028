package healthcheck

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxProcessFile bounds what is read of a file in /proc.
const maxProcessFile = 1 << 20

// Servers returns the other processes of this program that isServer accepts by their arguments,
// in the order of their process IDs. It lists those that this user can examine: its own, or all
// as root.
func Servers(isServer func(args []string) bool) (found []Server) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		exe, err := os.Readlink(dir + "/exe")
		// An upgrade replaces the file of a running server.
		if pid == os.Getpid() || err != nil || strings.TrimSuffix(exe, " (deleted)") != self {
			continue
		}
		args, environ := readStrings(dir+"/cmdline"), readStrings(dir+"/environ")
		if len(args) > 0 && isServer(args[1:]) {
			found = append(found, Server{PID: pid, Args: args[1:], Environ: environ})
		}
	}
	slices.SortFunc(found, func(a, b Server) int { return a.PID - b.PID })
	return found
}

// Dir returns the working directory of the server.
func (s Server) Dir() (string, error) { return os.Readlink(fmt.Sprintf("/proc/%d/cwd", s.PID)) }

// readStrings reads a file of strings that end with a zero byte.
func readStrings(file string) (all []string) {
	text, err := os.ReadFile(file)
	if err != nil || len(text) == 0 || len(text) > maxProcessFile {
		return nil
	}
	for part := range bytes.SplitSeq(bytes.TrimSuffix(text, []byte{0}), []byte{0}) {
		all = append(all, string(part))
	}
	return all
}
