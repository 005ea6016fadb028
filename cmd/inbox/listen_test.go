package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestProxyProtocol(t *testing.T) {
	p := start(t, "-https=false", "-proxy-protocol", "-trusted-proxies", "127.0.0.0/30", "-rate", "1", "-burst", "1")
	ask := func(from, preamble string) string {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(c, "%sGET /ice HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", preamble)
		line, _ := bufio.NewReader(c).ReadString('\n')
		return strings.TrimSpace(line)
	}
	v1 := func(addr string) string { return "PROXY TCP4 " + addr + " 127.0.0.1 1234 3000\r\n" }
	v2 := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc6\x33\x64\x09\x7f\x00\x00\x01\x04\xd2\x0b\xb8" // 198.51.100.9
	for _, row := range []struct{ name, from, preamble, want string }{
		{"version 1", "127.0.0.1", v1("192.0.2.1"), "HTTP/1.1 200 OK"},
		{"the same client again", "127.0.0.1", v1("192.0.2.1"), "HTTP/1.1 429 Too Many Requests"},
		{"another client", "127.0.0.1", v1("192.0.2.2"), "HTTP/1.1 200 OK"},
		{"version 2", "127.0.0.2", v2, "HTTP/1.1 200 OK"},
		{"version 2 again", "127.0.0.2", v2, "HTTP/1.1 429 Too Many Requests"},
		{"a proxy without the header", "127.0.0.1", "", ""},
		{"an untrusted peer with the header", "127.0.0.9", v1("192.0.2.3"), ""},
		{"an untrusted peer without it", "127.0.0.9", "", ""},
	} {
		if got := ask(row.from, row.preamble); got != row.want && !(row.want == "" && !strings.Contains(got, "200")) {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.sock")
	if l, err := net.Listen("unix", path); err != nil { // the stale socket of a killed server
		t.Fatal(err)
	} else {
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		l.Close()
	}
	start(t, "-bind", "unix:"+path, "-https=false", "-rate", "1", "-burst", "1")
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) },
	}}
	for _, row := range []struct {
		client string
		want   int
	}{{"192.0.2.1", 200}, {"192.0.2.1", 429}, {"192.0.2.2", 200}} {
		r, _ := http.NewRequest("GET", "http://inbox/ice", nil)
		r.Header.Set("X-Forwarded-For", row.client)
		a, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if a.StatusCode != row.want {
			t.Errorf("%s: got %d, want %d", row.client, a.StatusCode, row.want)
		}
	}
}
