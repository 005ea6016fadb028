package cluster

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inbox/e2e"
	"inbox/e2e/netns"
	"inbox/e2e/talk"
)

// The host process starts itself again in the network namespace of the peers.
const (
	networkEnv = "INBOX_CLUSTER_NETWORK" // name of the network, set in the inner process
	programEnv = "INBOX_CLUSTER_PROGRAM"
	peerHost   = "peers"
	storeURL   = "redis://10.99.0.2:6379"
)

var (
	nodeNames = []string{"node1", "node2", "node3"}
	allHosts  = append([]string{peerHost, "store"}, nodeNames...)
)

func nodeAddr(i int) string { return fmt.Sprintf("10.99.0.%d", 11+i) }

func TestMain(m *testing.M) {
	if os.Getenv(networkEnv) != "" {
		os.Exit(m.Run())
	}
	code, err := runInNamespace()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runInNamespace creates the network and runs the tests in the namespace of the peers.
func runInNamespace() (code int, err error) {
	if why := netns.Missing("redis-server"); why != "" {
		if os.Getenv("CI") != "" {
			return 1, fmt.Errorf("cluster: %s", why)
		}
		fmt.Println("cluster: skipped:", why)
		return 0, nil
	}
	dir, err := os.MkdirTemp("", "inbox-cluster-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	program, err := e2e.Build(context.Background(), dir)
	if err != nil {
		return 1, err
	}
	n, err := newNetwork()
	defer n.Remove()
	if err != nil {
		return 1, err
	}
	for i, host := range allHosts {
		addr := fmt.Sprintf("10.99.0.%d", i+1) // the peers have 1, the store has 2
		if i > 1 {
			addr = nodeAddr(i - 2)
		}
		if err := n.addHost(host, addr); err != nil {
			return 1, err
		}
	}
	if err := n.addSourceAddrs(peerHost); err != nil {
		return 1, err
	}
	self := n.Command(peerHost, os.Args[0], os.Args[1:]...)
	self.Env = append(os.Environ(), networkEnv+"="+n.Name, programEnv+"="+program)
	self.Stdout, self.Stderr = os.Stdout, os.Stderr
	err = self.Run()
	if self.ProcessState == nil {
		return 1, err
	}
	return self.ProcessState.ExitCode(), nil
}

// testCluster is the network with its processes.
type testCluster struct {
	network
	dir   string
	store *process
	nodes []*process
}

var (
	nodeReady  = regexp.MustCompile(`msg=listening\b`)
	storeReady = regexp.MustCompile(`Ready to accept connections`)
)

func startCluster(t *testing.T) *testCluster {
	t.Helper()
	s := &testCluster{network: network{netns.Network{Name: os.Getenv(networkEnv)}}, dir: t.TempDir()}
	secret := make([]byte, 32)
	rand.Read(secret)
	s.write(t, "store.key", base64.StdEncoding.EncodeToString(secret))
	s.store = s.process("store", storeReady, "redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--maxmemory", "200mb", "--maxmemory-policy", "noeviction", "--dir", s.dir)
	must(t, s.store.start())
	for i, host := range nodeNames {
		p := s.process(host, nodeReady, os.Getenv(programEnv), "-bind", nodeAddr(i)+":443", "-store", storeURL,
			"-store-key-file", s.path("store.key"), "-state", s.path(host), "-public", "", "-inbox-timeout", "60",
			"-rate", "1000", "-burst", "2000", "-conn-rate", "500")
		s.nodes = append(s.nodes, p)
		must(t, p.start())
	}
	t.Cleanup(func() { s.stop(t) })
	s.waitReady(t)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *testCluster) path(name string) string { return filepath.Join(s.dir, name) }

func (s *testCluster) write(t *testing.T, name, text string) {
	t.Helper()
	must(t, os.WriteFile(s.path(name), []byte(text), 0o600))
}

func (s *testCluster) process(host string, ready *regexp.Regexp, program string, args ...string) *process {
	command := func() *exec.Cmd { return s.Command(host, program, args...) }
	return &process{command: command, readyPattern: ready, logPath: s.path(host + ".log")}
}

// waitReady waits until every node is ready.
func (s *testCluster) waitReady(t *testing.T) {
	t.Helper()
	for i := range s.nodes {
		began := time.Now()
		for !isReady(nodeAddr(i)) {
			if time.Since(began) > startTimeout {
				t.Fatalf("%s is not ready after %v", nodeNames[i], startTimeout)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

func (s *testCluster) stop(t *testing.T) {
	for _, p := range append(s.nodes, s.store) {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	}
	for _, p := range s.nodes {
		if unexpected := p.unexpectedLog(); unexpected != "" {
			t.Errorf("%s: got unexpected log lines, want none:\n%s", filepath.Base(p.logPath), unexpected)
		}
	}
	if t.Failed() && os.Getenv("KEEP") != "" {
		out, _ := exec.Command("cp", "-r", s.dir, os.Getenv("KEEP")).CombinedOutput()
		t.Logf("logs copied to %s %s", os.Getenv("KEEP"), out)
	}
}

// dialer connects pair i to a preferred node, or to another one if that does not
// answer, like clients with several addresses in the DNS. Each pair has its own source
// address.
func dialer() func(i int) func(ctx context.Context, network, addr string) (net.Conn, error) {
	var preferred [pairCount]atomic.Int32 // sender and receiver of a pair prefer different nodes
	return func(i int) func(ctx context.Context, network, addr string) (net.Conn, error) {
		return func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialNode(ctx, network, i, i+int(preferred[i].Add(1)))
		}
	}
}

func dialNode(ctx context.Context, network string, i, first int) (c net.Conn, err error) {
	for n := range nodeNames {
		dial := net.Dialer{Timeout: 700 * time.Millisecond,
			LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 99, 128+byte(i>>8), 1+byte(i))}}
		if c, err = dial.DialContext(ctx, network, nodeAddr((first+n)%len(nodeNames))+":443"); err == nil {
			return c, nil
		}
	}
	return nil, err
}

const pairCount = 12

// A node is killed, another disconnected, the store restarted and killed, and all nodes
// are restarted in turn: accepted messages arrive, with duplicates only after requests
// with an unknown result.
func TestPeersLoseNothing(t *testing.T) {
	s, counters := startCluster(t), new(talk.Counters)
	server := talk.Server{URL: "https://inbox.test", Dial: dialer(), RequestTimeout: 8 * time.Second}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var pairs []*talk.Pair
	for i := range pairCount {
		server.Transport = talk.Transports[i%len(talk.Transports)]
		p := talk.NewPair(server, fmt.Sprint("pair-", i), i, counters)
		pairs = append(pairs, p)
		wg.Go(func() { p.Run(ctx) })
	}
	phase := func(name string, do func()) {
		before := counters.Stats()
		counters.TakeMaxGap()
		do()
		waitForTraffic(t, pairs)
		after := counters.Stats()
		t.Logf("%-32s accepted %5d, refused %4d, no response %3d, Retry-After %4d, longest gap %v",
			name, after.Accepted-before.Accepted, after.Refused-before.Refused, after.NoResponse-before.NoResponse,
			after.RetryAfter-before.RetryAfter, counters.TakeMaxGap().Round(10*time.Millisecond))
	}
	phase("idle", func() { time.Sleep(3 * time.Second) })
	phase("a node is killed and restarted", func() {
		s.nodes[0].kill()
		time.Sleep(3 * time.Second)
		must(t, s.nodes[0].start())
		s.waitReady(t)
	})
	phase("a node is disconnected for 6 s", func() {
		must(t, s.disconnect("node2"))
		time.Sleep(6 * time.Second)
		must(t, s.reconnect("node2"))
		s.waitReady(t)
	})
	phase("the store is restarted", func() {
		must(t, s.store.stop())
		must(t, s.store.start())
		s.waitReady(t)
		time.Sleep(2 * time.Second)
	})
	phase("the store is killed for 3 s", func() {
		s.store.kill()
		time.Sleep(3 * time.Second)
		must(t, s.store.start())
		s.waitReady(t)
		time.Sleep(2 * time.Second)
	})
	phase("all nodes are restarted in turn", func() {
		for _, n := range s.nodes {
			must(t, n.stop())
			must(t, n.start())
			s.waitReady(t)
		}
	})
	phase("idle again", func() { time.Sleep(3 * time.Second) })
	cancel()
	wg.Wait()
	counters.CheckNoLoss(t, true)
}

// waitForTraffic waits until every pair receives messages again, so that gaps count in
// the phase that caused them.
func waitForTraffic(t *testing.T, pairs []*talk.Pair) {
	t.Helper()
	began := time.Now()
	for _, p := range pairs {
		for before := p.Received(); p.Received() == before; time.Sleep(20 * time.Millisecond) {
			if time.Since(began) > 30*time.Second {
				t.Fatal("got no messages of a pair for 30 seconds")
			}
		}
	}
}

// isReady queries /readyz.
func isReady(addr string) bool {
	out, err := exec.Command("curl", "-sk", "--max-time", "2", "-o", "/dev/null", "-w", "%{http_code}", "https://"+addr+"/readyz").Output()
	return err == nil && strings.TrimSpace(string(out)) == "200"
}
