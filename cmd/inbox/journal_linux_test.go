package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// runToJournal runs the program until it exits, with stderr on a pipe, and returns the
// lines. JOURNAL_STREAM identifies the pipe if named is true.
func runToJournal(t *testing.T, named bool, args ...string) []string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var s syscall.Stat_t
	if err := syscall.Fstat(int(w.Fd()), &s); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), os.Args[0], append([]string{"-state", t.TempDir(), "-https=false"}, args...)...)
	c.Env, c.Stderr = append(os.Environ(), asProgram+"=1"), w
	if stream := fmt.Sprintf("%d:%d", s.Dev, s.Ino); named {
		c.Env = append(c.Env, "JOURNAL_STREAM="+stream)
	} else {
		c.Env = append(c.Env, "JOURNAL_STREAM=1"+stream) // another stream
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	defer c.Wait()
	var lines []string
	for in := bufio.NewScanner(r); in.Scan(); {
		lines = append(lines, in.Text())
		if strings.Contains(in.Text(), "listening") {
			c.Process.Signal(syscall.SIGTERM)
		}
	}
	return lines
}

func TestJournalPriorities(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		args := []string{"-bind", "0.0.0.0:0", "-log-level", "debug", "-log-format", format}
		found := map[string]bool{}
		for _, line := range runToJournal(t, true, args...) {
			for mark, level := range map[string]string{"<7>": "DEBUG", "<6>": "INFO", "<4>": "WARN", "<3>": "ERROR"} {
				if has := strings.Contains(line, level); has != strings.HasPrefix(line, mark) {
					t.Errorf("%s: %q has a wrong priority prefix", format, line)
				} else if has {
					found[level] = true
				}
			}
		}
		if !found["INFO"] || !found["WARN"] { // plain HTTP causes a warning
			t.Errorf("%s: found only levels %v", format, found)
		}
		for _, line := range runToJournal(t, false, args...) {
			if strings.HasPrefix(line, "<") {
				t.Errorf("%s: unexpected priority without the journal: %q", format, line)
			}
		}
	}
}

func TestJournalPriorityOfFailedStart(t *testing.T) {
	for _, args := range [][]string{{"-bind", "192.0.2.1:1"}, {"-no-such-option"}} {
		lines := runToJournal(t, true, args...)
		if len(lines) == 0 || !strings.HasPrefix(lines[len(lines)-1], "<3>inbox: ") {
			t.Errorf("%q: got %q, want an error with priority 3", args, lines)
		}
		if lines := runToJournal(t, false, args...); !strings.HasPrefix(lines[len(lines)-1], "inbox: ") {
			t.Errorf("%q: without the journal: got %q, want no priority", args, lines)
		}
	}
}
