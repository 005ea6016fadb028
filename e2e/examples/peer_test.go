package examples

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// peer is a running example.
type peer struct {
	t     *testing.T
	cmd   *exec.Cmd
	input io.WriteCloser
	ended chan struct{}

	mu      sync.Mutex
	output  bytes.Buffer
	changed chan struct{} // closed when output grows
}

// answer starts a peer that waits for calls.
func (s *site) answer(language, name, password string) *peer {
	s.t.Helper()
	if language == "python" {
		return startPeer(s.t, python, "-B", directory+"/python/answer.py", s.url(), name, password, "--insecure")
	}
	return startPeer(s.t, goPeer, "-server", s.url(), "-insecure", "-name", name, "-password", password)
}

// call starts a peer that calls a name.
func (s *site) call(name string, options ...string) *peer {
	s.t.Helper()
	return startPeer(s.t, goPeer, append([]string{"-server", s.url(), "-insecure", "-call", name}, options...)...)
}

func startPeer(t *testing.T, name string, args ...string) *peer {
	t.Helper()
	p := &peer{t: t, cmd: exec.Command(name, args...), ended: make(chan struct{}), changed: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "no_proxy=127.0.0.1,localhost")
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.WaitDelay = time.Second
	var err error
	if p.input, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // await sees what the program has printed
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%v printed\n%s", p.cmd.Args, p.printed())
		}
	})
	return p
}

func (p *peer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
	return p.output.Write(b)
}

func (p *peer) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// await waits until the peer has printed a text.
func (p *peer) await(text string) {
	p.t.Helper()
	p.awaitTimes(text, 1)
}

// awaitTimes waits until the peer has printed a text so many times.
func (p *peer) awaitTimes(text string, times int) {
	p.t.Helper()
	deadline := time.After(timeout)
	for {
		p.mu.Lock()
		found, changed := strings.Count(p.output.String(), text) >= times, p.changed
		p.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			p.t.Fatalf("%v has not printed %q", p.cmd.Args, text)
		case <-p.ended:
			if strings.Count(p.printed(), text) < times {
				p.t.Fatalf("%v ended without printing %q", p.cmd.Args, text)
			}
			return
		}
	}
}

// echo sends a line, which must come back.
func (p *peer) echo(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.input, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
	p.await("bob: " + line + "\n")
}

// end ends the input of a caller, which must exit.
func (p *peer) end() {
	p.t.Helper()
	p.input.Close()
	select {
	case <-p.ended:
		if !p.cmd.ProcessState.Success() {
			p.t.Errorf("%v: %v", p.cmd.Args, p.cmd.ProcessState)
		}
	case <-time.After(timeout):
		p.t.Fatalf("%v has not ended", p.cmd.Args)
	}
}

func (p *peer) kill() {
	_ = p.cmd.Process.Kill() // fails only if it has ended
	<-p.ended
}
