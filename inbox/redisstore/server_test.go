//go:build linux

package redisstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// server is a real redis-server on loopback, owned by one test. It ends with the test
// process by means of Pdeathsig, which only Linux has; hence the build constraint.
type server struct {
	t    testing.TB
	port int
	dir  string
	args []string
	cmd  *exec.Cmd
}

// requireRedis skips the test if redis-server is not installed. In CI that is a
// failure: scripts/test installs it.
func requireRedis(t testing.TB) {
	t.Helper()
	for _, program := range []string{"redis-server", "redis-cli"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is missing: apt install redis-server", program)
			}
			t.Skipf("%s is missing: apt install redis-server", program)
		}
	}
}

// usedPorts are the ports in use by the tests of this run.
var usedPorts sync.Map

// freePort finds a free port whose cluster bus port, 10000 above, is free as well. Both
// are below the ephemeral range, which begins at 32768.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 20000 + rand.IntN(2700)
		if _, taken := usedPorts.LoadOrStore(port, true); !taken && isFree(port) && isFree(port+10000) {
			return port
		}
	}
	t.Fatal("no free port from 20000 to 22700")
	return 0
}

func isFree(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	requireRedis(t)
	s := &server{t: t, port: freePort(t), dir: t.TempDir(), args: args}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *server) start() {
	s.t.Helper()
	args := append([]string{"--port", fmt.Sprint(s.port), "--bind", "127.0.0.1", "--save", "", "--dir", s.dir, "--daemonize", "no"}, s.args...)
	s.cmd = exec.Command("redis-server", args...)
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.until("answers", func() bool {
		return strings.ContainsAny(s.try("PING"), "PN") && !strings.Contains(s.try("PING"), "Could not")
	})
}

// kill sends SIGKILL.
func (s *server) kill() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *server) signal(sig os.Signal) { s.cmd.Process.Signal(sig) }

func (s *server) until(what string, ok func() bool) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("redis-server %s", what), ok)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("timed out after a minute waiting until %s", what)
}

// try runs one command and returns its output, including errors.
func (s *server) try(args ...string) string {
	out, _ := exec.Command("redis-cli", append([]string{"-p", fmt.Sprint(s.port)}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out))
}

func (s *server) do(args ...string) string {
	s.t.Helper()
	for _, arg := range args {
		if strings.ContainsRune(arg, 0) {
			s.t.Fatalf("redis-cli cannot pass %q", arg)
		}
	}
	out := s.try(args...)
	if strings.HasPrefix(out, "ERR") || strings.HasPrefix(out, "Could not") {
		s.t.Fatalf("redis-cli %v: %s", args, out)
	}
	return out
}

// user creates a user with the password secret-word and some permissions. It returns
// false if the server does not support channel permissions, which require Redis 6.2.
func (s *server) user(name string, rights ...string) (channels bool) {
	s.t.Helper()
	channels = !strings.Contains(s.do("INFO", "server"), "redis_version:6.0.")
	if !channels {
		rights = slices.DeleteFunc(slices.Clone(rights), func(r string) bool { return r == "resetchannels" || r[0] == '&' })
	}
	s.do(append([]string{"ACL", "SETUSER", name, "on", ">secret-word"}, rights...)...)
	return channels
}

func (s *server) addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// cluster is a set of servers, either a single one or those of a Redis Cluster.
type cluster []*server

func startCluster(t testing.TB, replicas int) cluster {
	t.Helper()
	var c cluster
	args := []string{"--cluster", "create"}
	masters := 3
	for range masters * (1 + replicas) {
		s := startServer(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000",
			"--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0")
		c = append(c, s)
		args = append(args, s.addr())
	}
	args = append(args, "--cluster-replicas", fmt.Sprint(replicas), "--cluster-yes")
	joining, cancel := context.WithTimeout(t.Context(), time.Minute) // redis-cli waits without a limit
	defer cancel()
	if out, err := exec.CommandContext(joining, "redis-cli", args...).CombinedOutput(); err != nil {
		t.Fatalf("redis-cli %v: %v\n%s", args, err, out)
	}
	for _, s := range c {
		s.until("knows all masters and replicas", func() bool { return strings.Count(s.try("CLUSTER", "NODES"), "master") == masters })
		s.until("is in the cluster", func() bool { return strings.Contains(s.try("CLUSTER", "INFO"), "cluster_state:ok") })
		s.until("is a master or connected to one", func() bool {
			info := s.try("INFO", "replication")
			return strings.Contains(info, "role:master") || strings.Contains(info, "master_link_status:up")
		})
	}
	return c
}

func (c cluster) url() string {
	var hosts []string
	for _, s := range c {
		hosts = append(hosts, s.addr())
	}
	return "redis://" + strings.Join(hosts, ",")
}

// flush empties all masters. Replicas reject the command.
func (c cluster) flush() {
	for _, s := range c {
		s.try("FLUSHALL")
	}
}

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
