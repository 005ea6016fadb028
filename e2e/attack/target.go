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

// target is a server under attack, a process of its own.
type target struct {
	*e2e.Server
	program   string
	addr      string
	plaintext bool
	proc      proc.ID
	stateDir  string
	log       *serverLog
}

// start runs the program and returns once it listens.
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

// quit ends the server with SIGQUIT, upon which Go prints every goroutine. It
// returns a line for each of the program's own.
func (t *target) quit() (goroutines []string, err error) {
	defer os.RemoveAll(t.stateDir)
	err = t.StopWithSignal(syscall.SIGQUIT)
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		return nil, fmt.Errorf("the server ended with %v before it was told to", err)
	}
	return t.log.goroutines, nil
}

// cpu is how long it has run; 0 when it is gone, which other measures tell.
func (t *target) cpu() time.Duration {
	d, _ := t.proc.CPU()
	return d
}

// serverLog reads the server's log and keeps of it what counts.
type serverLog struct {
	mu              sync.Mutex
	bytes           int
	unexpectedLines []string // the first few
	goroutines      []string // what each does, once the server was told to say so
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

// countLocked keeps a line for each goroutine, without those of Go itself,
// which come and go.
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

// summary returns how much was logged, and what must not have been.
func (j *serverLog) summary() (int, []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.bytes, j.unexpectedLines
}
