// Package systemd runs the units of this repository under a real systemd, which
// it boots in namespaces of its own.
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

// unitsDir is where the repository has them.
const unitsDir = "../../systemd"

// clientEnv makes the test binary a visitor of this URL until its input ends,
// since only a process of its own can live in another network.
const clientEnv = "TEST_VISIT"

// program is the server's binary, as it is installed.
var program string

func TestMain(m *testing.M) {
	if url := os.Getenv(clientEnv); url != "" {
		runClients(url)
		return
	}
	os.Setenv("CGO_ENABLED", "0") // it has to run on any Debian
	e2e.Main(m, &program)
}

// clientStats is what visitors met.
type clientStats struct {
	Answered, Refused, Failed int64
	MaxLatency                time.Duration // that one waited for an answer
}

// runClients connects again and again from four places until standard input ends,
// and prints what it met.
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
	pid string // of systemd, as we see it
}

// skipOrFail skips the test, but fails where everything has to run.
func skipOrFail(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// boot starts a machine with the server installed, and ends it with the test.
func boot(t *testing.T) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		skipOrFail(t, "booting systemd needs root")
	}
	for _, tool := range []string{"unshare", "nsenter", "ip", "/lib/systemd/systemd"} {
		if _, err := exec.LookPath(tool); err != nil {
			skipOrFail(t, "booting systemd needs "+tool+"; install util-linux, iproute2 and systemd")
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
			skipOrFail(t, fmt.Sprintf("systemd does not boot here: %v\n%s", err, output.String()))
		default:
		}
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		m.pid = strings.TrimSpace(string(children))
		if out, err := m.try("systemctl", "is-system-running"); m.pid != "" && err == nil && strings.TrimSpace(out) == "running" {
			return m
		}
		if time.Now().After(deadline) {
			out, _ := m.try("systemctl", "--failed")
			t.Fatalf("systemd has not booted in a minute\n%s", out)
		}
	}
}

// removeCgroup removes the control groups that the machine leaves.
func removeCgroup(t *testing.T, dir string, pid int) {
	script := fmt.Sprintf("mount --make-rprivate /; mount -t cgroup2 cgroup2 %s && find %[1]s/inbox-boot-%d -depth -type d -exec rmdir {} +", dir, pid)
	var out []byte
	var err error
	for range 100 { // until the kernel has ended all
		if out, err = exec.Command("unshare", "--mount", "sh", "-c", script).CombinedOutput(); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("the machine's control group cannot be removed: %v\n%s", err, out)
}

func (m *machine) try(command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", m.pid, "--all", "--"}, command...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_PAGER=", "LC_ALL=C"}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// run runs a command on the machine and returns what it says.
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

// property is a property of the service.
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

// write makes a file on the machine.
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

// installFile installs a file of this side on the machine.
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

// eventually waits up to half a minute.
func (m *machine) eventually(what string, is func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("%s: not in half a minute\n%s", what, m.journal())
		}
	}
}

// curl asks on the machine, and returns the status, or 000.
func (m *machine) curl(args ...string) string {
	out, _ := m.try(append([]string{"curl", "-sk", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}"}, args...)...)
	return strings.TrimSpace(out)
}

// wantServed demands that all that is asked is answered with the status.
func (m *machine) wantStatus(status string, args ...string) {
	m.t.Helper()
	if got := m.curl(args...); got != status {
		m.t.Fatalf("curl %s: status %s, want %s\n%s", strings.Join(args, " "), got, status, m.journal())
	}
}

// measureClients counts what visitors of the URL meet while do runs.
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
		defer input.Close() // also when do ends the test
		do()
	}()
	if err := cmd.Wait(); err != nil {
		m.t.Fatalf("visitors: %v\n%s", err, errs.String())
	}
	if err := json.Unmarshal([]byte(out.String()), &v); err != nil {
		m.t.Fatalf("%v in %q", err, out.String())
	}
	m.t.Logf("visitors: %+v", v)
	return v
}
