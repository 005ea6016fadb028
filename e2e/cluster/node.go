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
	startTime = 20 * time.Second
	stopTime  = 30 * time.Second
)

// process is a program on a host, across restarts.
type process struct {
	command func() *exec.Cmd
	ready   *regexp.Regexp // the line of its log that says that it serves
	log     string         // the file that keeps it

	cmd *exec.Cmd
	mu  sync.Mutex
	bad []string // lines that nobody should see
}

var trouble = regexp.MustCompile(`^panic|^fatal error|level=ERROR|DATA RACE`)

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
	serves := make(chan error, 1)
	go p.read(out, serves)
	select {
	case err = <-serves:
	case <-time.After(startTime):
		err = errors.New("it does not say that it serves")
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(p.log), err)
	}
	return nil
}

func (p *process) read(out io.ReadCloser, serves chan<- error) {
	defer out.Close()
	keep, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		serves <- err
		return
	}
	defer keep.Close()
	lines, last, said := bufio.NewScanner(out), "", false
	for lines.Scan() {
		last = lines.Text()
		fmt.Fprintln(keep, last)
		if trouble.MatchString(last) {
			p.mu.Lock()
			p.bad = append(p.bad, last)[:min(len(p.bad)+1, 5)]
			p.mu.Unlock()
		}
		if !said && p.ready.MatchString(last) {
			serves <- nil
			said = true
		}
	}
	if !said {
		serves <- fmt.Errorf("it ended: %s", last)
	}
}

// stop ends the program as a service manager does.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // gone already: Wait says so
	kill := time.AfterFunc(stopTime, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("stop %s: %w", filepath.Base(p.log), err)
	}
	return nil
}

// kill ends the program without a word.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it says that it was killed
}

// said returns what was logged and should not have been.
func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.bad, "\n")
}
