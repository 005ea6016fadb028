package turn

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// peerEnv is set in the processes that TestMain runs as pion peers.
const peerEnv = "INBOX_TURN_PEER"

// pionClient has pion peers call each other through their relays.
func pionClient(t *testing.T, s *server) {
	for _, schemes := range [][2]string{{"turn", "turn"}, {"turns", "turns"}, {"turn", "turns"}} {
		t.Run(schemes[0]+" to "+schemes[1], func(t *testing.T) {
			t.Parallel()
			callPion(t, peerConfig{Server: otherName, Scheme: schemes[0]}, peerConfig{Server: otherName, Scheme: schemes[1]})
		})
	}
}

// callPion has carol call dave and transfer a payload.
func callPion(t *testing.T, caller, callee peerConfig) {
	t.Helper()
	caller.Offers, caller.Mailbox, callee.Mailbox = true, "caller "+t.Name(), "callee "+t.Name()
	toCallee, fromCaller, err1 := os.Pipe()
	toCaller, fromCallee, err2 := os.Pipe()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	peers := []*peerProcess{
		startPeer(t, "carol", caller, toCaller, fromCaller),
		startPeer(t, "dave", callee, toCallee, fromCallee),
	}
	for _, p := range peers {
		if err := p.Wait(); err != nil {
			t.Errorf("%s: %v: %s", p.host, err, p.stderr.Bytes())
		}
	}
}

type peerProcess struct {
	*exec.Cmd
	host   string
	stderr bytes.Buffer
}

// startPeer starts this program as a peer on a host, and closes the files.
func startPeer(t *testing.T, host string, c peerConfig, in, out *os.File) *peerProcess {
	t.Helper()
	defer in.Close()
	defer out.Close()
	argument, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	p := &peerProcess{Cmd: world.Command(host, os.Args[0]), host: host}
	p.Env = append(os.Environ(), peerEnv+"="+string(argument), "SSL_CERT_FILE="+world.ca)
	p.Stdin, p.Stdout, p.Stderr = in, out, &p.stderr
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}
