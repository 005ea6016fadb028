// Package systemd tests the units of this repository with a real systemd, which it boots in
// new namespaces.
package systemd

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"inbox/e2e"
)

// unitsDir is the directory of the units in the repository.
const unitsDir = "../../systemd"

// clientEnv is the environment variable with a URL that the test binary requests until its
// standard input ends. Only a separate process can run in another network namespace.
const clientEnv = "TEST_CLIENT_URL"

// program is the path of the server binary to install.
var program string

func TestMain(m *testing.M) {
	if url := os.Getenv(clientEnv); url != "" {
		runClients(url)
		return
	}
	os.Setenv("CGO_ENABLED", "0") // the binary must run on any Debian
	e2e.Main(m, &program)
}

// clientStats counts the results of client requests.
type clientStats struct {
	Answered, Refused, Failed int64
	MaxLatency                time.Duration // of answered requests
}

// runClients sends requests from four concurrent clients, each on a new connection, until
// standard input ends, and prints clientStats as JSON.
func runClients(url string) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var stats clientStats
	var longest atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
				DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
			}}
			for ctx.Err() == nil {
				began := time.Now()
				resp, err := client.Get(url)
				switch {
				case errors.Is(err, syscall.ECONNREFUSED):
					atomic.AddInt64(&stats.Refused, 1)
				case err != nil:
					atomic.AddInt64(&stats.Failed, 1)
				default:
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					atomic.AddInt64(&stats.Answered, 1)
					for waited, most := int64(time.Since(began)), longest.Load(); waited > most && !longest.CompareAndSwap(most, waited); {
						most = longest.Load()
					}
				}
			}
		})
	}
	wg.Wait()
	stats.MaxLatency = time.Duration(longest.Load())
	json.NewEncoder(os.Stdout).Encode(stats)
}

// machine is a booted systemd.
type machine struct {
	t   *testing.T
	pid string // of systemd, in the PID namespace of this process
}

// skipOrFail skips the test, or fails it in CI.
func skipOrFail(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// boot starts a machine. It is stopped at the end of the test.
func boot(t *testing.T) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		skipOrFail(t, "booting systemd requires root")
	}
	for _, tool := range []string{"unshare", "nsenter", "ip", "/lib/systemd/systemd"} {
		if _, err := exec.LookPath(tool); err != nil {
			skipOrFail(t, "booting systemd requires "+tool+"; install util-linux, iproute2 and systemd")
		}
	}
	dir := t.TempDir()
	cmd := exec.Command("unshare", "--mount", "sh", "boot.sh", dir)
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-exited
		removeCgroup(t, dir, cmd.Process.Pid)
	})
	m := &machine{t: t}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		select {
		case err := <-exited:
			exited <- err
			skipOrFail(t, fmt.Sprintf("systemd does not boot on this machine: %v\n%s", err, output.String()))
		default:
		}
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		m.pid = strings.TrimSpace(string(children))
		if out, err := m.try("systemctl", "is-system-running"); m.pid != "" && err == nil && strings.TrimSpace(out) == "running" {
			return m
		}
		if time.Now().After(deadline) {
			out, _ := m.try("systemctl", "--failed")
			t.Fatalf("timeout after a minute: systemd has not booted\n%s", out)
		}
	}
}

// removeCgroup removes the remaining control groups of the machine.
func removeCgroup(t *testing.T, dir string, pid int) {
	script := fmt.Sprintf("mount --make-rprivate /; mount -t cgroup2 cgroup2 %s && find %[1]s/inbox-boot-%d -depth -type d -exec rmdir {} +", dir, pid)
	var out []byte
	var err error
	for range 100 { // until the kernel has ended all processes
		if out, err = exec.Command("unshare", "--mount", "sh", "-c", script).CombinedOutput(); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("remove the control group of the machine: %v\n%s", err, out)
}

// try runs a command on the machine and returns its output.
func (m *machine) try(command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", m.pid, "--all", "--"}, command...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_PAGER=", "LC_ALL=C"}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// run runs a command on the machine, which must succeed, and returns its output.
func (m *machine) run(command ...string) string {
	m.t.Helper()
	out, err := m.try(command...)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s\n%s", strings.Join(command, " "), err, out, m.journal())
	}
	return out
}

func (m *machine) systemctl(args ...string) string {
	m.t.Helper()
	return m.run(append([]string{"systemctl"}, args...)...)
}

func (m *machine) journal() string {
	out, _ := m.try("journalctl", "--no-pager", "-n", "25")
	return out
}

// property returns a property of the service.
func (m *machine) property(name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.systemctl("show", "--value", "-p", name, "inbox"))
}

func (m *machine) intProperty(name string) int {
	m.t.Helper()
	n, err := strconv.Atoi(m.property(name))
	if err != nil {
		m.t.Fatal(err)
	}
	return n
}

// write writes a file on the machine.
func (m *machine) write(path, text string) {
	m.t.Helper()
	path = filepath.Join("/proc", m.pid, "root", path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// installFile copies a file to the machine.
func (m *machine) installFile(from, to string, mode os.FileMode) {
	m.t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(to, string(data))
	if err := os.Chmod(filepath.Join("/proc", m.pid, "root", to), mode); err != nil {
		m.t.Fatal(err)
	}
}

// eventually waits until is returns true. what describes the condition.
func (m *machine) eventually(what string, is func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("timeout after 30s, want: %s\n%s", what, m.journal())
		}
	}
}

// curl runs curl on the machine and returns the status of the response, or 000 without one.
func (m *machine) curl(args ...string) string {
	out, _ := m.try(append([]string{"curl", "-sk", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}"}, args...)...)
	return strings.TrimSpace(out)
}

// wantStatus runs curl with args and checks the status of the response.
func (m *machine) wantStatus(status string, args ...string) {
	m.t.Helper()
	if got := m.curl(args...); got != status {
		m.t.Fatalf("curl %s: got status %s, want %s\n%s", strings.Join(args, " "), got, status, m.journal())
	}
}

// measureClients runs clients that request url while do runs, and returns their results.
func (m *machine) measureClients(url string, do func()) (v clientStats) {
	m.t.Helper()
	cmd := exec.Command("nsenter", "--target", m.pid, "--net", "--", os.Args[0])
	cmd.Env = append(os.Environ(), clientEnv+"="+url)
	input, err := cmd.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	func() {
		defer input.Close() // even if do ends the test
		do()
	}()
	if err := cmd.Wait(); err != nil {
		m.t.Fatalf("clients: %v\n%s", err, errs.String())
	}
	if err := json.Unmarshal([]byte(out.String()), &v); err != nil {
		m.t.Fatalf("clients: got %q: %v", out.String(), err)
	}
	m.t.Logf("clients: %+v", v)
	return v
}
