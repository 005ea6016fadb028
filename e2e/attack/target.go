package attack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"inbox/e2e"
	"inbox/e2e/proc"
)

// target is a server under attack, in its own process.
type target struct {
	*e2e.Server
	program   string
	addr      string
	plaintext bool
	proc      proc.ID
	stateDir  string
	log       *serverLog
}

// start runs the program with a memory limit in bytes, and returns when it listens.
func start(program string, memory int64, flags []string) (*target, error) {
	stateDir, err := os.MkdirTemp("", "inbox-attack-")
	if err != nil {
		return nil, err
	}
	args := []string{"-bind", "127.0.0.1:0", "-state", stateDir, "-public", "", "-max-memory", fmt.Sprint(memory)}
	t := &target{program: program, plaintext: slices.Contains(flags, "-https=false"), stateDir: stateDir, log: &serverLog{}}
	t.Server, err = e2e.StartWith(exec.Command(program, append(args, flags...)...), t.log.readLine)
	if err != nil {
		os.RemoveAll(stateDir)
		return nil, err
	}
	t.addr, t.proc = t.Addr, proc.ID(t.PID())
	return t, nil
}

// quit ends the server with SIGQUIT, so that Go prints all goroutines. It returns one line
// for each goroutine of the program.
func (t *target) quit() (goroutines []string, err error) {
	defer os.RemoveAll(t.stateDir)
	err = t.StopWithSignal(syscall.SIGQUIT)
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		return nil, fmt.Errorf("the server exited before SIGQUIT: %v", err)
	}
	return t.log.goroutines, nil
}

// cpu returns the CPU time of the server, or 0 if it has exited, which other checks
// report.
func (t *target) cpu() time.Duration {
	d, _ := t.proc.CPU()
	return d
}

// serverLog reads the server's log, and keeps its size, unexpected lines and goroutines.
type serverLog struct {
	mu              sync.Mutex
	bytes           int
	unexpectedLines []string // the first five
	goroutines      []string // after SIGQUIT
	quitting        bool
}

var unexpectedPattern = regexp.MustCompile(`^panic|^fatal error|level=ERROR|http: panic|DATA RACE`)

func (j *serverLog) readLine(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if strings.HasPrefix(line, "SIGQUIT") {
		j.quitting = true
	}
	if j.quitting {
		j.countLocked(line)
		return
	}
	j.bytes += len(line) + 1
	if unexpectedPattern.MatchString(line) && len(j.unexpectedLines) < 5 {
		j.unexpectedLines = append(j.unexpectedLines, line)
	}
}

// countLocked keeps a line for each goroutine, except those of the Go runtime, whose number
// varies.
func (j *serverLog) countLocked(line string) {
	if strings.HasPrefix(line, "goroutine ") && !strings.HasPrefix(line, "goroutine 0 ") {
		j.goroutines = append(j.goroutines, line)
	}
	last := len(j.goroutines) - 1
	if creator, ok := strings.CutPrefix(line, "created by "); ok && last >= 0 {
		j.goroutines[last] += " " + creator
		if strings.HasPrefix(creator, "runtime.") {
			j.goroutines = j.goroutines[:last]
		}
	}
}

// summary returns the number of logged bytes, and the unexpected lines.
func (j *serverLog) summary() (int, []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.bytes, j.unexpectedLines
}
