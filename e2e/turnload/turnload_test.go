package main

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestMain runs the forwarder, which the measurement starts as a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "-forwarder" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestShortRun checks that all targets relay, not how fast.
func TestShortRun(t *testing.T) {
	if _, err := exec.LookPath("turnserver"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("requires turnserver of coturn: run scripts/test install")
	}
	var out, logs bytes.Buffer
	args := []string{"-clients", "4", "-udp-rate", "200", "-tls-rate", "200", "-rounds", "1", "-duration", "300ms", "-memory", "10"}
	if err := run(t.Context(), args, &out, &logs); err != nil {
		t.Fatalf("%v\n%s", err, logs.String())
	}
	for _, want := range []string{"UDP relay to relay", "TLS relay to relay", "forwarder", "coturn", "memory of an allocation over TLS"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %s, want %q in it", out.String(), want)
		}
	}
	if strings.Contains(out.String(), " 0.00 %") {
		t.Errorf("got %s, want packets delivered by all targets", out.String())
	}
}

func TestArguments(t *testing.T) {
	for _, args := range []string{"-clients 1", "-size 1500", "-rounds 0", "-duration 1h", "-memory 1", "-transport dtls", "-other before", "-other =before"} {
		if _, err := parse(strings.Fields(args), new(bytes.Buffer)); err == nil {
			t.Errorf("%s: got no error, want one", args)
		}
	}
}

// TestServerRunsBesideTheForwarder checks that the rounds that are compared are adjacent.
func TestServerRunsBesideTheForwarder(t *testing.T) {
	server, forwarder := &session{target: &target{name: "server"}}, &session{target: &target{name: "forwarder"}}
	for _, others := range []int{0, 1, 2} {
		sessions := append([]*session{server, forwarder}, make([]*session, others)...)
		for round := range 4 {
			order := inOrder(sessions, round)
			if i, j := slices.Index(order, server), slices.Index(order, forwarder); i-j != 1 && j-i != 1 {
				t.Errorf("%d others, round %d: the server is %d and the forwarder %d", others, round, i, j)
			}
		}
	}
}
