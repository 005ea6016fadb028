package cluster

import (
	"bufio"
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
	readyPattern *regexp.Regexp // log line that reports readiness
	logPath      string         // file with the log of all runs

	cmd             *exec.Cmd
	mu              sync.Mutex
	unexpectedLines []string // log lines that must not occur, up to five
}

var unexpectedPattern = regexp.MustCompile(`^panic|^fatal error|level=ERROR|DATA RACE`)

// start starts the program and waits until it logs readiness.
func (p *process) start() error {
	p.cmd = p.command()
	// ip execs the program, so signals reach it; Pdeathsig ends it with the test.
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
		err = fmt.Errorf("not ready after %v", startTimeout)
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
		started <- fmt.Errorf("exited; last log line: %s", last)
	}
}

// stop ends the program as a service manager does.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only if already exited; then see Wait
	killTimer := time.AfterFunc(stopTimeout, func() { _ = p.cmd.Process.Kill() })
	defer killTimer.Stop()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("stop %s: %w", filepath.Base(p.logPath), err)
	}
	return nil
}

// kill sends SIGKILL and waits.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // always an error: the process was killed
}

// unexpectedLog returns log lines that must not occur.
func (p *process) unexpectedLog() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.unexpectedLines, "\n")
}
