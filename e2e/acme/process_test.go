package acme

import (
	"context"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"inbox/tlsmgr"
)

// buildDir is where programs are built, by the first test that needs them.
var buildDir string

var nodeBinary = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	program := filepath.Join(buildDir, "node")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "./node").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the node: %w\n%s", err, out)
	}
	return program, nil
})

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	flag.Parse()
	var err error
	if buildDir, err = os.MkdirTemp("", "inbox-acme-"); err == nil {
		// The tests mostly wait, so more of them fit than there are processors.
		err = flag.Set("test.parallel", "12")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(buildDir)
	log.SetOutput(tlsmgr.StdLog{Log: slog.New(slog.DiscardHandler)})
	return m.Run()
}

// process is a node that runs.
type process struct {
	*exec.Cmd
	log *logBuffer
}

// startNode starts a process that serves the name on ports of its own.
func (r *rig) startNode(name string, httpPort, tlsPort int, extraArgs ...string) *process {
	r.t.Helper()
	program, err := nodeBinary()
	if err != nil {
		r.t.Fatal(err)
	}
	args := []string{"-name", name, "-state", r.dir, "-ca", r.ca.url(), "-roots", r.ca.serverRootFile,
		"-http", strconv.Itoa(httpPort), "-tls", strconv.Itoa(tlsPort)}
	p := &process{exec.Command(program, append(args, extraArgs...)...), new(logBuffer)}
	p.Stderr = p.log
	if err := p.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
		if r.t.Failed() {
			r.t.Logf("log of a node:\n%s", p.log)
		}
	})
	return p
}

// The authority only ever sees the first node; when the second orders, the
// first answers for it out of the directory they share.
func TestTwoProcessesOrderOnce(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"certmagic", "autocert"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{})
			name := newName()
			first := r.startNode(name, r.httpPort, r.tlsPort, "-engine", engine)
			second := r.startNode(name, freePort(t), freePort(t), "-engine", engine)
			for _, p := range []*process{first, second} {
				eventually(t, waitTimeout, "both nodes have taken up the certificate", func() bool {
					return p.log.has("certificate taken up")
				})
			}
			if got := r.ca.orders(); got != 1 {
				t.Errorf("%d orders, want 1", got)
			}
		})
	}
}

// At renewal, too, one of two orders, and the other takes up what it brought.
func TestTwoProcessesRenewOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{validity: 24 * time.Second})
	name := newName()
	first := r.startNode(name, r.httpPort, r.tlsPort)
	second := r.startNode(name, freePort(t), freePort(t))
	for _, p := range []*process{first, second} {
		eventually(t, 2*waitTimeout, "both nodes have renewed", func() bool { return p.log.count("certificate taken up") > 1 })
	}
	loaded := min(first.log.count("certificate taken up"), second.log.count("certificate taken up"))
	if got := r.ca.orders(); got > loaded+1 {
		t.Errorf("%d orders for %d certificates", got, loaded)
	}
	obtained := func(p *process) int { return p.log.count("certificate obtained") + p.log.count("certificate renewed") }
	if got := obtained(first) + obtained(second); got > r.ca.orders() {
		t.Errorf("%d certificates from %d orders", got, r.ca.orders())
	}
}

// The second node alone orders, and the first, which does not, answers.
func TestOneProcessAnswersForAnother(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{})
	name := newName()
	r.ca.mode.Store(503)
	first := r.startNode(name, r.httpPort, r.tlsPort)
	eventually(t, waitTimeout, "the first node has tried", func() bool { return first.log.has("no certificate yet") })
	first.Process.Signal(syscall.SIGSTOP)
	r.ca.mode.Store(modeUp)
	second := r.startNode(name, freePort(t), freePort(t))
	eventually(t, waitTimeout, "the second node orders", func() bool { return r.ca.orders() > 0 })
	first.Process.Signal(syscall.SIGCONT)
	eventually(t, waitTimeout, "the second node has a certificate", func() bool { return second.log.has("certificate obtained") })
}

// However often a process is killed and started again, the orders at the
// authority stay those of one attempt.
func TestCrashLoopMakesNoExtraOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{httpPort: freePort(t), tlsPort: freePort(t)})
	name := newName()
	for range 6 {
		p := r.startNode(name, r.httpPort, r.tlsPort)
		eventually(t, waitTimeout, "the node has ordered, or waits with it", func() bool {
			return p.log.has("msg=listening") && r.ca.orders() > 0
		})
		time.Sleep(200 * time.Millisecond) // so that a wrong one would have the time to order
		p.Process.Kill()
		p.Wait()
	}
	if got := r.ca.orders(); got > 1 {
		t.Errorf("%d orders after six crashes, want 1", got)
	}
	if got := r.ca.validations(); got > 1 {
		t.Errorf("%d validations after six crashes, want 1 at most", got)
	}
}

// With no room on the disk nothing is ordered, for it could not be recorded;
// the log says so, and the files serve.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{})
	name := newName()
	cert, key := writeSelfSigned(t, time.Hour, name)
	p := r.startNode(name, r.httpPort, r.tlsPort, "-full", "-cert", cert, "-key", key)
	eventually(t, waitTimeout, "the log says why nothing is ordered", func() bool {
		return p.log.has("no certificate can be ordered") && p.log.has("file too large")
	})
	leaf, err := (&testServer{t: t, rig: r, host: "127.0.0.1"}).servedCert(name)
	if err != nil || leaf.Subject.CommonName != selfSignedCN {
		t.Errorf("shown %v, %v; want the certificate of the files", leaf, err)
	}
	if got := r.ca.orders(); got != 0 {
		t.Errorf("%d orders, want none", got)
	}
}
