package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"inbox/e2e"
	"inbox/e2e/proc"

	"golang.org/x/sys/unix"
)

// target is a process under measurement.
type target struct {
	name               string
	process            *e2e.Server
	udp, tls           string // addresses; empty is none
	username, password string
	metrics            string // address of the metrics listener
	// dial connects a client and opens its allocation.
	dial func(t *target, from string, overTLS bool) (client, error)
}

func (t *target) pid() proc.ID { return proc.ID(t.process.PID()) }

// startTargets starts the server, coturn and the forwarder. On an error it returns the targets
// already started, which the caller must stop.
func startTargets(ctx context.Context, cfg config, dir string) (targets []*target, err error) {
	starts := []func(string) (*target, error){
		func(dir string) (*target, error) { return buildInbox(ctx, dir) }, startForwarder, startCoturn,
	}
	if name, path, ok := strings.Cut(cfg.other, "="); ok {
		starts = append(starts, func(dir string) (*target, error) { return startInbox(name, path, filepath.Join(dir, "other")) })
	}
	for _, start := range starts {
		t, err := start(dir)
		if err != nil {
			return targets, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}

func stopTargets(targets []*target) {
	for _, t := range targets {
		_ = t.process.Stop() // the exit code does not matter here
	}
}

// receiveBufferBytes is that of the socket unit.
const receiveBufferBytes = 4 << 20

// udpSocket returns a socket as the socket unit of systemd has it.
func udpSocket() (*net.UDPConn, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	err = raw.Control(func(fd uintptr) {
		// Unlike SO_RCVBUF, it can exceed net.core.rmem_max. It requires root.
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBufferBytes) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBufferBytes)
		}
	})
	return c, err
}

// socketActivationScript passes descriptor 3 as systemd does. LISTEN_PID must be the process
// ID, which is known only to the shell that execs the program.
const socketActivationScript = `export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=turn; exec "$0" "$@"`

var metricsAddrPattern = regexp.MustCompile(`msg=metrics addr=(\S+)`)

func buildInbox(ctx context.Context, dir string) (*target, error) {
	program, err := e2e.Build(ctx, dir)
	if err != nil {
		return nil, err
	}
	return startInbox("inbox", program, dir)
}

// startInbox starts a build of the server, with its state in a directory.
func startInbox(name, program, dir string) (*target, error) {
	socket, err := udpSocket()
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	file, err := socket.File()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	c := exec.Command("/bin/sh", "-c", socketActivationScript, program, "-bind", "127.0.0.1:0", "-metrics-bind", "127.0.0.1:0",
		"-public", "", "-state", filepath.Join(dir, "state"), "-rate", "1000000", "-burst", "1000000", "-conn-rate", "0")
	c.ExtraFiles = []*os.File{file}
	t := &target{name: name, dial: dialTURN}
	var mu sync.Mutex
	t.process, err = e2e.StartWith(c, func(line string) {
		mu.Lock()
		defer mu.Unlock()
		if m := metricsAddrPattern.FindStringSubmatch(line); m != nil {
			t.metrics = m[1]
		}
	})
	if err != nil {
		return nil, err
	}
	t.tls = t.process.Addr
	return t, t.fetchCredentials()
}

// fetchCredentials requests GET /ice.
func (t *target) fetchCredentials() error {
	r, err := http.NewRequest("GET", "https://"+t.tls+"/ice", nil)
	if err != nil {
		return err
	}
	r.SetBasicAuth("load", "password of load")
	client := http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, // self-signed certificate
	}}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var body struct {
		ICEServers []struct {
			URLs                 []string
			Username, Credential string
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return err
	}
	for _, s := range body.ICEServers {
		for _, url := range s.URLs {
			if addr, ok := strings.CutPrefix(url, "turn:"); ok {
				t.udp, _, _ = strings.Cut(addr, "?")
				t.username, t.password = s.Username, s.Credential
				return nil
			}
		}
	}
	return fmt.Errorf("GET /ice: got status %d and no TURN server", resp.StatusCode)
}

// startCoturn starts coturn with the certificate of the server.
func startCoturn(dir string) (*target, error) {
	program, err := exec.LookPath("turnserver")
	if err != nil {
		return nil, fmt.Errorf("%w: run scripts/test install", err)
	}
	udp, tlsAddr, err := freeAddrs()
	if err != nil {
		return nil, err
	}
	_, udpPort, _ := net.SplitHostPort(udp)
	_, tlsPort, _ := net.SplitHostPort(tlsAddr)
	certificate := filepath.Join(dir, "state", "selfsigned.pem")
	t := &target{name: "coturn", udp: udp, tls: tlsAddr, username: "load", password: "load", dial: dialTURN}
	t.process, err = e2e.StartCommand(tlsAddr, program, "-n", "--no-cli", "--no-dtls", "--no-multicast-peers", "--allow-loopback-peers",
		"--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--listening-port="+udpPort, "--tls-listening-port="+tlsPort,
		"--cert="+certificate, "--pkey="+certificate, "--lt-cred-mech", "--user=load:load", "--realm=load",
		"--log-file="+filepath.Join(dir, "coturn.log"), "--simple-log", "--pidfile="+filepath.Join(dir, "coturn.pid"),
		"--userdb="+filepath.Join(dir, "coturn.db"))
	return t, err
}

func startForwarder(string) (*target, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	process, err := e2e.Start(self, "-forwarder")
	if err != nil {
		return nil, err
	}
	return &target{name: "forwarder", process: process, udp: process.Addr, dial: dialForwarder}, nil
}

// freeAddrs finds free addresses for UDP and for TCP.
func freeAddrs() (udp, tcp string, err error) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer l.Close()
	return c.LocalAddr().String(), l.Addr().String(), nil
}
