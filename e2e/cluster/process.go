package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startTimeout = 20 * time.Second
	stopTimeout  = 30 * time.Second
)

// process is a program on a host, across restarts.
type process struct {
	command      func() *exec.Cmd
	readyPattern *regexp.Regexp // the line of its log that says that it serves
	logPath      string         // the file that keeps it

	cmd             *exec.Cmd
	mu              sync.Mutex
	unexpectedLines []string // lines that nobody should see
}

var unexpectedPattern = regexp.MustCompile(`^panic|^fatal error|level=ERROR|DATA RACE`)

// start returns once the program serves.
func (p *process) start() error {
	p.cmd = p.command()
	// ip becomes the program, so signals reach it; it dies with the test.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	p.cmd.Stdout, p.cmd.Stderr = in, in
	err = p.cmd.Start()
	in.Close()
	if err != nil {
		return err
	}
	started := make(chan error, 1)
	go p.readLog(out, started)
	select {
	case err = <-started:
	case <-time.After(startTimeout):
		err = errors.New("it does not say that it serves")
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(p.logPath), err)
	}
	return nil
}

func (p *process) readLog(out io.ReadCloser, started chan<- error) {
	defer out.Close()
	logFile, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		started <- err
		return
	}
	defer logFile.Close()
	lines, last, isUp := bufio.NewScanner(out), "", false
	for lines.Scan() {
		last = lines.Text()
		fmt.Fprintln(logFile, last)
		if unexpectedPattern.MatchString(last) {
			p.mu.Lock()
			p.unexpectedLines = append(p.unexpectedLines, last)[:min(len(p.unexpectedLines)+1, 5)]
			p.mu.Unlock()
		}
		if !isUp && p.readyPattern.MatchString(last) {
			started <- nil
			isUp = true
		}
	}
	if !isUp {
		started <- fmt.Errorf("it ended: %s", last)
	}
}

// stop ends the program as a service manager does.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // gone already: Wait says so
	killTimer := time.AfterFunc(stopTimeout, func() { _ = p.cmd.Process.Kill() })
	defer killTimer.Stop()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("stop %s: %w", filepath.Base(p.logPath), err)
	}
	return nil
}

// kill ends the program without a word.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it says that it was killed
}

// unexpectedLog returns what was logged and should not have been.
func (p *process) unexpectedLog() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.unexpectedLines, "\n")
}
