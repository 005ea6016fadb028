package attack

import (
	"bytes"
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
)

// target is a server under attack, a process of its own.
type target struct {
	addr  string
	plain bool
	proc  process
	cmd   *exec.Cmd
	log   *journal
}

const (
	startTime = 20 * time.Second // a self-signed key is made in it, on a busy machine too
	stopTime  = 20 * time.Second
)

// start runs the program and returns once it listens.
func start(program string, memory int64, flags []string) (*target, error) {
	state, err := os.MkdirTemp("", "inbox-attack-")
	if err != nil {
		return nil, err
	}
	args := []string{"-bind", "127.0.0.1:0", "-state", state, "-public", "", "-max-memory", fmt.Sprint(memory)}
	t := &target{
		plain: slices.Contains(flags, "-https=false"),
		cmd:   exec.Command(program, append(args, flags...)...),
		log:   &journal{listening: make(chan string, 1)},
	}
	t.cmd.Stderr = t.log
	if err := t.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	defer time.AfterFunc(stopTime, func() { os.RemoveAll(state) })
	t.proc = process(t.cmd.Process.Pid)
	select {
	case t.addr = <-t.log.listening:
		return t, nil
	case <-time.After(startTime):
		_, err := t.quit()
		return nil, errors.Join(errors.New("the server does not log that it listens"), err)
	}
}

// quit ends the server with SIGQUIT, upon which Go prints every goroutine. It
// returns a line for each of the program's own.
func (t *target) quit() (goroutines []string, err error) {
	_ = t.cmd.Process.Signal(syscall.SIGQUIT) // gone already: Wait says so
	kill := time.AfterFunc(stopTime, func() { _ = t.cmd.Process.Kill() })
	defer kill.Stop()
	err = t.cmd.Wait()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		return nil, fmt.Errorf("the server ended with %v before it was told to", err)
	}
	return t.log.goroutines, nil
}

// journal reads the server's log and keeps of it what counts.
type journal struct {
	listening chan string

	mu         sync.Mutex
	rest       []byte // a line that is not complete
	bytes      int
	troubles   []string // the first few
	goroutines []string // what each does, once the server was told to say so
	quitting   bool
}

var (
	listening = regexp.MustCompile(`msg=listening\b.*\baddr=(\S+)`)
	trouble   = regexp.MustCompile(`^panic|^fatal error|level=ERROR|http: panic|DATA RACE`)
)

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rest = append(j.rest, p...)
	for {
		line, rest, whole := bytes.Cut(j.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		j.readLocked(string(line))
		j.rest = rest
	}
}

func (j *journal) readLocked(line string) {
	if strings.HasPrefix(line, "SIGQUIT") {
		j.quitting = true
	}
	if j.quitting {
		j.countLocked(line)
		return
	}
	j.bytes += len(line) + 1
	if m := listening.FindStringSubmatch(line); m != nil {
		j.listening <- m[1]
	}
	if trouble.MatchString(line) && len(j.troubles) < 5 {
		j.troubles = append(j.troubles, line)
	}
}

// countLocked keeps a line for each goroutine, without those of Go itself,
// which come and go.
func (j *journal) countLocked(line string) {
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

// said returns how much was logged, and what must not have been.
func (j *journal) said() (int, []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.bytes, j.troubles
}
