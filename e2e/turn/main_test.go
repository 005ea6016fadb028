package turn

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"inbox/e2e"
	"inbox/e2e/netns"
)

// world is what all tests share. Each server host and each firewall belongs to one test.
var world *site

func TestMain(m *testing.M) {
	if argument := os.Getenv(peerEnv); argument != "" {
		if err := runPeer(argument, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code, err := runInWorld(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runInWorld(m *testing.M) (code int, err error) {
	if why := netns.Missing("nft"); why != "" {
		if os.Getenv("CI") != "" {
			return 1, fmt.Errorf("turn: %s", why)
		}
		fmt.Println("turn: skipped:", why)
		return 0, nil
	}
	dir, err := os.MkdirTemp("", "inbox-turn-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	world = &site{dir: dir}
	if world.program, err = e2e.Build(context.Background(), dir); err != nil {
		return 1, err
	}
	if dev := os.Getenv("TURN_TESTSERVER"); dev != "" {
		world.program = dev
	}
	if world.certificates, err = newCertificates(dir); err != nil {
		return 1, err
	}
	world.network, err = newNetwork()
	defer func() {
		if removed := world.Remove(); err == nil && removed != nil {
			code, err = 1, removed
		}
	}()
	if err != nil {
		return 1, err
	}
	names, err := world.startNameServer()
	defer names.stop()
	if err != nil {
		return 1, err
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil { // most tests wait, whatever the number of processors
		return 1, err
	}
	return m.Run(), nil
}

// skipOrFail skips the test, or fails it in CI.
func skipOrFail(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// startServer starts a server on a host and stops it at the end of the test.
func startServer(t *testing.T, host string, args ...string) *server {
	t.Helper()
	s := world.newServer(host, args...)
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of the server on %s:\n%s", host, s.lastLog())
		}
	})
	return s
}

// setFirewall sets the rules of the router until the end of the test.
func setFirewall(t *testing.T, rules string) {
	t.Helper()
	if err := world.setFirewall(rules); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := world.setFirewall(openFirewall); err != nil {
			t.Error(err)
		}
	})
}
