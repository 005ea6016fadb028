package attack

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
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
	proxied   bool // connections begin with a PROXY header
	resets    bool // dialTCP makes connections that end with a reset, so that the server drops what it has not read
	proc      proc.ID
	stateDir  string
	log       *serverLog
}

// start runs the program for an attack, and returns when it listens.
func start(program string, a attack) (*target, error) {
	stateDir, err := os.MkdirTemp("", "inbox-attack-")
	if err != nil {
		return nil, err
	}
	t := &target{
		program: program, stateDir: stateDir, log: &serverLog{},
		plaintext: slices.Contains(a.flags, "-https=false"), proxied: slices.Contains(a.flags, "-proxy-protocol"),
	}
	pages := ""
	if a.files > 0 {
		pages = stateDir + "-pages"
		if err := writeLargeFile(pages); err != nil {
			return nil, err
		}
	}
	args := append([]string{"-bind", "127.0.0.1:0", "-state", stateDir, "-public", pages, "-max-memory", fmt.Sprint(a.memory),
		"-turn-bind", "127.0.0.1:0", "-metrics-bind", "127.0.0.1:0"}, a.flags...)
	t.Server, err = e2e.StartWith(commandWithFiles(a.files, program, args), t.log.readLine)
	if err != nil {
		t.removeDirs()
		return nil, err
	}
	t.addr, t.proc = t.Addr, proc.ID(t.PID())
	return t, nil
}

func (t *target) removeDirs() {
	os.RemoveAll(t.stateDir)
	os.RemoveAll(t.stateDir + "-pages")
}

// writeLargeFile makes a directory of pages with large.bin, which exceeds the kernel's socket
// buffers.
func writeLargeFile(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "large.bin"), make([]byte, 16<<20), 0o644)
}

// commandWithFiles returns a command whose process may open a number of files; zero is the
// limit of this process.
func commandWithFiles(files int, program string, args []string) *exec.Cmd {
	if files == 0 {
		return exec.Command(program, args...)
	}
	script := fmt.Sprintf(`ulimit -Sn %d && ulimit -Hn %d && exec "$0" "$@"`, files, files)
	return exec.Command("/bin/sh", append([]string{"-c", script, program}, args...)...)
}

// quit ends the server with SIGQUIT, so that Go prints all goroutines. It returns one line
// for each goroutine of the program.
func (t *target) quit() (goroutines []string, err error) {
	defer t.removeDirs()
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

var (
	metricsAddr   = regexp.MustCompile(`msg=metrics addr=(\S+)`)
	framesPattern = regexp.MustCompile(`(?m)^inbox_compat_frames_total\{.*\} (\S+)$`)
)

// frames returns how many frames of WebSockets of -compat the server has handled.
func (t *target) frames() (n float64, err error) {
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	resp, err := client.Get("http://" + t.log.find(metricsAddr) + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	for _, m := range framesPattern.FindAllSubmatch(text, -1) {
		more, _ := strconv.ParseFloat(string(m[1]), 64) // written by the server, always valid
		n += more
	}
	return n, err
}

// serverLog reads the server's log, and keeps its size, unexpected lines and goroutines.
type serverLog struct {
	mu              sync.Mutex
	bytes           int
	unexpectedLines []string // the first five
	lines           []string // the first hundred
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
	if len(j.lines) < 100 {
		j.lines = append(j.lines, line)
	}
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

// has reports whether one of the first lines contains a text.
func (j *serverLog) has(text string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.lines, func(line string) bool { return strings.Contains(line, text) })
}

// find returns the first group of a pattern in one of the first lines, or "".
func (j *serverLog) find(pattern *regexp.Regexp) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, line := range j.lines {
		if m := pattern.FindStringSubmatch(line); m != nil {
			return m[1]
		}
	}
	return ""
}

// summary returns the number of logged bytes, and the unexpected lines.
func (j *serverLog) summary() (int, []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.bytes, j.unexpectedLines
}
