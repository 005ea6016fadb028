package acme

import (
	"context"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"inbox/internal/filelock"
)

// buildDir contains the programs, each built by the first test that needs it.
var buildDir string

var nodeBinary = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	program := filepath.Join(buildDir, "node")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "./node").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build node: %w\n%s", err, out)
	}
	return program, nil
})

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	flag.Parse()
	var err error
	if buildDir, err = os.MkdirTemp("", "inbox-acme-"); err == nil {
		// The tests mostly wait, so more of them can run than there are processors.
		err = flag.Set("test.parallel", "12")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(buildDir)
	log.SetOutput(io.Discard) // certmagic writes there
	return m.Run()
}

// process is a running node.
type process struct {
	*exec.Cmd
	log *logBuffer
}

// startNode starts a node that serves the name on the given ports.
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
			r.t.Logf("node log:\n%s", p.log)
		}
	})
	return p
}

// The CA connects only to the first node. If the second one orders, the first one answers
// the challenge from the shared state directory.
func TestTwoProcessesOrderOnce(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		r, name := newRig(t, pebbleOptions{}), newName()
		first := r.startNode(name, r.httpPort, r.tlsPort, "-engine", engine)
		second := r.startNode(name, freePort(t), freePort(t), "-engine", engine)
		for _, p := range []*process{first, second} {
			eventually(t, waitTimeout, "both nodes load the certificate", func() bool {
				return p.log.has("certificate loaded")
			})
		}
		if got := r.ca.orders(); got != 1 {
			t.Errorf("got %d orders, want 1", got)
		}
	})
}

// At renewal, too, one node orders, and the other one loads the new certificate.
func TestTwoProcessesRenewOnce(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{validity: 24 * time.Second}), newName()
	first := r.startNode(name, r.httpPort, r.tlsPort)
	second := r.startNode(name, freePort(t), freePort(t))
	for _, p := range []*process{first, second} {
		eventually(t, 2*waitTimeout, "both nodes load a renewed certificate", func() bool { return p.log.count("certificate loaded") > 1 })
	}
	loaded := min(first.log.count("certificate loaded"), second.log.count("certificate loaded"))
	if got := r.ca.orders(); got > loaded+1 {
		t.Errorf("got %d orders for %d certificates, want at most one more", got, loaded)
	}
	obtained := func(p *process) int { return p.log.count("certificate obtained") + p.log.count("certificate renewed") }
	if got := obtained(first) + obtained(second); got > r.ca.orders() {
		t.Errorf("got %d certificates from %d orders, want at most as many", got, r.ca.orders())
	}
}

// Only the second node orders, and the first one answers the challenge.
func TestOneProcessAnswersForAnother(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{}), newName()
	r.ca.mode.Store(503)
	first := r.startNode(name, r.httpPort, r.tlsPort)
	eventually(t, waitTimeout, "the first node fails", func() bool { return first.log.has("no certificate yet") })
	eventually(t, waitTimeout, "the first node releases its lock", func() bool { return !anyLocked(t, r.dir) })
	first.Process.Signal(syscall.SIGSTOP)
	r.ca.mode.Store(modeUp)
	second := r.startNode(name, freePort(t), freePort(t))
	eventually(t, waitTimeout, "the second node orders", func() bool { return r.ca.orders() > 0 })
	first.Process.Signal(syscall.SIGCONT)
	eventually(t, waitTimeout, "the second node has a certificate", func() bool { return second.log.has("certificate obtained") })
}

// anyLocked reports whether a process holds the lock of a name in a state directory.
func anyLocked(t *testing.T, dir string) (locked bool) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		locked = locked || err == nil && filepath.Ext(path) == ".lock" && filelock.HeldExclusively(path)
		return nil // a temporary file can be gone
	})
	if err != nil {
		t.Fatal(err)
	}
	return locked
}

// Crashes and restarts make no more orders than one attempt.
func TestCrashLoopMakesNoExtraOrder(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{httpPort: freePort(t), tlsPort: freePort(t)}), newName()
	for range 6 {
		p := r.startNode(name, r.httpPort, r.tlsPort)
		eventually(t, waitTimeout, "the node listens, and an order was made", func() bool {
			return p.log.has("msg=listening") && r.ca.orders() > 0
		})
		time.Sleep(200 * time.Millisecond) // time for an unwanted order
		p.Process.Kill()
		p.Wait()
	}
	if got := r.ca.orders(); got > 1 {
		t.Errorf("got %d orders after six crashes, want at most 1", got)
	}
	if got := r.ca.validations(); got > 1 {
		t.Errorf("got %d validations after six crashes, want at most 1", got)
	}
}

// On a full disk the server makes no orders, because it cannot record them. It logs the
// reason and serves the certificate files.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{}), newName()
	cert, key := writeSelfSigned(t, time.Hour, name)
	p := r.startNode(name, r.httpPort, r.tlsPort, "-full", "-cert", cert, "-key", key)
	eventually(t, waitTimeout, "the log reports why no certificate is ordered", func() bool {
		return p.log.has("no certificate can be ordered") && p.log.has("file too large")
	})
	leaf, err := (&testServer{t: t, rig: r, host: "127.0.0.1"}).servedCert(name)
	if err != nil || leaf.Subject.CommonName != selfSignedCN {
		t.Errorf("got certificate %v, %v; want the one of the files", leaf, err)
	}
	if got := r.ca.orders(); got != 0 {
		t.Errorf("got %d orders, want none", got)
	}
}
