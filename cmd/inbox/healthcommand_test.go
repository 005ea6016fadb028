package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// runHealth runs inbox health and returns its output with the exit code.
func runHealth(t *testing.T, args ...string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	code := run(t.Context(), process{args: append([]string{"health"}, args...), stdout: &out, stderr: &out})
	return out.String(), code
}

// TestHealthCommand asks servers with the options that change how they are reached.
func TestHealthCommand(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "inbox.sock")
	domain := []string{"-domain", "a.example", "-acme-agree", "-acme-ca", "https://127.0.0.1:1/directory", "-acme-preflight=false", "-http-bind="}
	for name, test := range map[string]struct {
		args []string
		bind string // empty: that of the server
		want string
	}{
		"HTTPS":                           {nil, "", "ok: 127.0.0.1:"},
		"HTTP":                            {[]string{"-https=false"}, "", "ok: 127.0.0.1:"},
		"rate limit":                      {[]string{"-https=false", "-rate", "1", "-burst", "1"}, "", "ok: 127.0.0.1:"},
		"PROXY protocol":                  {[]string{"-https=false", "-proxy-protocol", "-trusted-proxies", "127.0.0.1"}, "", "ok: "},
		"PROXY protocol of another proxy": {[]string{"-proxy-protocol", "-trusted-proxies", "192.0.2.1"}, "", "ok: "},
		"no certificate yet":              {domain, "", "has no certificate for a.example yet"},
		"Unix socket":                     {[]string{"-https=false", "-bind", "unix:" + socket}, "unix:" + socket, "ok: " + socket},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(test.bind, "unix:") && runtime.GOOS == "windows" {
				t.Skip("no Unix sockets")
			}
			p := start(t, test.args...)
			if test.bind == "" {
				test.bind = p.addr
			}
			out, code := runHealth(t, append(test.args, "-bind", test.bind)...)
			if code != exitDone || !strings.Contains(out, test.want) {
				t.Errorf("got exit code %d and %q, want 0 and %q\n%s", code, out, test.want, p.log)
			}
		})
	}
}

// TestHealthCommandFails checks that failures name the address, and that the exit code is never 2,
// which Docker reserves.
func TestHealthCommandFails(t *testing.T) {
	plain := start(t, "-https=false")
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"nothing listens": {[]string{"-bind", "127.0.0.1:1"}, "inbox: no healthy server at 127.0.0.1:1: "},
		"no HTTPS":        {[]string{"-bind", plain.addr}, "inbox: no healthy server at " + plain.addr + ": "},
		"no Unix socket":  {[]string{"-bind", "unix:" + filepath.Join(t.TempDir(), "none")}, "inbox: no healthy server at "},
		"unknown option":  {[]string{"-bnd", ":1"}, "did you mean -bind?"},
		"invalid options": {[]string{"-domain", "a.example"}, "requires -email"},
	} {
		out, code := runHealth(t, test.args...)
		if code != exitFailure || !strings.Contains(out, test.want) {
			t.Errorf("%s: got exit code %d and %q, want 1 and %q", name, code, out, test.want)
		}
	}
}

// TestHealthAndStatusFindRunningServer starts a server as another process, with options that differ from
// the defaults, and asks without options, as the container image does.
func TestHealthAndStatusFindRunningServer(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux shows the options of processes")
	}
	binary := filepath.Join(t.TempDir(), "inbox")
	if out, err := exec.Command("cp", os.Args[0], binary).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), binary, args...)
		cmd.Env = append(os.Environ(), asProgram+"=1", "INBOX_HTTPS=false", "INBOX_TURN=off", "INBOX_STATE="+t.TempDir())
		return cmd
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	metricsBind := free.Addr().String()
	free.Close()
	startServer := func(bind string) {
		log := newOutput()
		cmd := command("-bind", bind, "-metrics-bind", metricsBind)
		cmd.Stderr = log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		select {
		case <-log.listening:
		case <-time.After(30 * time.Second):
			t.Fatalf("the server does not listen:\n%s", log)
		}
	}
	socket := "unix:" + filepath.Join(t.TempDir(), "inbox.sock")
	startServer(socket)
	cmd := command("health")
	cmd.Env = append(cmd.Env, "INBOX_HTTPS=true") // that of the server counts
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "ok: "+strings.TrimPrefix(socket, "unix:")+"\n" {
		t.Errorf("got %v and %q, want the socket", err, out)
	}
	if out, err := command("status").CombinedOutput(); err != nil || !strings.Contains(string(out), "LAST WARNINGS") {
		t.Errorf("status: got %v and %q", err, out)
	}
	metricsBind = ""
	startServer("127.0.0.1:0")
	if out, err := command("status").CombinedOutput(); err == nil || !strings.Contains(string(out), "several servers run") || !strings.Contains(string(out), "as in inbox status -metrics-bind") {
		t.Errorf("status of two servers: got %v and %q, want an error", err, out)
	}
	if out, err := command("health").CombinedOutput(); err == nil || !strings.Contains(string(out), "several servers run") {
		t.Errorf("two servers: got %v and %q, want an error", err, out)
	}
}

// TestHealthAsksSystemd checks that the address of an active socket unit replaces that of the
// -env-file, but not that of the command line.
func TestHealthAsksSystemd(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no systemd")
	}
	p := start(t, "-https=false")
	dir := t.TempDir()
	script := "#!/bin/sh\nprintf 'FileDescriptorName=http\\nActiveState=active\\nListen=" + p.addr + " (Stream)\\n'\n"
	envFile := filepath.Join(dir, "inbox.env")
	for name, file := range map[string]struct {
		text string
		mode os.FileMode
	}{filepath.Join(dir, "systemctl"): {script, 0o755}, envFile: {"INBOX_BIND=127.0.0.1:1\nINBOX_HTTPS=false\n", 0o644}} {
		if err := os.WriteFile(name, []byte(file.text), file.mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if out, code := runHealth(t, "-env-file", envFile); code != exitDone {
		t.Errorf("got exit code %d and %q, want 0", code, out)
	}
	if out, code := runHealth(t, "-env-file", envFile, "-bind", "127.0.0.1:1"); code != exitFailure {
		t.Errorf("-bind on the command line: got exit code %d and %q, want 1", code, out)
	}
}
