package turn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// browserTimeout bounds one command, also on a busy machine. It exceeds the timeouts of the
// driver.
const browserTimeout = 90 * time.Second

// browser is a real browser on a host, which trusts the CA of the test. The driver, which
// runs on the same host, is e2e/pages/lib/remote.js.
type browser struct {
	kind, host string

	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer
	ended  chan struct{} // closed when the driver has closed its output

	mu      sync.Mutex
	lastID  int
	waiting map[int]chan response
}

// request is a command to the driver; see remote.js.
type request struct {
	ID      int          `json:"id"`
	Method  string       `json:"method"`
	Page    string       `json:"page,omitempty"`
	URL     string       `json:"url,omitempty"`
	Options *pageOptions `json:"options,omitempty"`
}

// pageOptions change how a page uses its ICE servers; see remote.js.
type pageOptions struct {
	RelayOnly   bool     `json:"relayOnly,omitempty"`
	Schemes     []string `json:"schemes,omitempty"`
	ICE         any      `json:"ice,omitempty"`
	AllowErrors bool     `json:"allowErrors,omitempty"`
}

type response struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  string          `json:"error"`
}

// launch starts a browser on a host: "chromium" or "firefox".
func (s *site) launch(kind, host string) (*browser, error) {
	home, err := os.MkdirTemp(s.dir, kind+"-"+host+"-") // a test can run twice
	if err != nil {
		return nil, err
	}
	// Chromium reads the database of HOME, Firefox that of its profile.
	profile := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(profile, 0o700); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"-N", "--empty-password"}, {"-A", "-n", "CA of a test", "-t", "C,,", "-i", s.ca},
	} {
		c := exec.Command("certutil", append(args, "-d", "sql:"+profile)...)
		if out, err := c.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("certutil: %w: %s", err, out)
		}
	}
	b := &browser{kind: kind, host: host, ended: make(chan struct{}), waiting: map[int]chan response{}}
	b.cmd = s.Command(host, "node", "../pages/lib/remote.js", kind, profile)
	b.cmd.Env = append(os.Environ(), "HOME="+home)
	if err := b.start(); err != nil {
		return nil, err
	}
	return b, b.do("launch", "", nil)
}

func (b *browser) start() error {
	b.cmd.Stderr = &b.stderr
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err1 := b.cmd.StdinPipe()
	out, err2 := b.cmd.StdoutPipe()
	if err := errors.Join(err1, err2, b.cmd.Start()); err != nil {
		return err
	}
	b.stdin = in
	go b.readResponses(out)
	return nil
}

func (b *browser) readResponses(out io.Reader) {
	defer close(b.ended)
	for lines := json.NewDecoder(out); ; {
		var r response
		if lines.Decode(&r) != nil {
			return
		}
		b.mu.Lock()
		if waiting := b.waiting[r.ID]; waiting != nil {
			waiting <- r
		}
		delete(b.waiting, r.ID)
		b.mu.Unlock()
	}
}

// do runs a command for a page and stores its result, unless that is nil.
func (b *browser) do(method, page string, result any) error {
	return b.run(request{Method: method, Page: page}, result)
}

func (b *browser) run(r request, result any) error {
	answer := make(chan response, 1)
	b.mu.Lock()
	b.lastID++
	r.ID = b.lastID
	b.waiting[r.ID] = answer
	b.mu.Unlock()
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := b.stdin.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%s on %s: %w: %s", b.kind, b.host, err, &b.stderr)
	}
	select {
	case got := <-answer:
		if got.Error != "" {
			return fmt.Errorf("%s on %s: %s %s: %s", b.kind, b.host, r.Method, r.Page, got.Error)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(got.Result, result)
	case <-b.ended:
		return fmt.Errorf("%s on %s: the driver has exited: %s", b.kind, b.host, &b.stderr)
	case <-time.After(browserTimeout):
		return fmt.Errorf("%s on %s: timeout after %v: %s %s", b.kind, b.host, browserTimeout, r.Method, r.Page)
	}
}

// quit ends the browser.
func (b *browser) quit() error {
	err := b.do("quit", "", nil)
	killTimer := time.AfterFunc(20*time.Second, func() { _ = b.cmd.Process.Kill() }) // fails only if already exited
	defer killTimer.Stop()
	return errors.Join(err, b.cmd.Wait())
}
