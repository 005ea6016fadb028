package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestHeaderFieldLimit checks that a header with more than a hundred fields is refused with a
// problem document, over each version of HTTP.
func TestHeaderFieldLimit(t *testing.T) {
	for _, row := range []struct{ flag, proto string }{{"-https=false", "HTTP/1.1"}, {"-https", "HTTP/2.0"}} {
		p := start(t, row.flag, "-rate", "1", "-burst", "3")
		for _, tt := range []struct{ fields, status int }{{90, 200}, {101, 431}, {400, 431}, {400, 429}} {
			r, _ := http.NewRequest("GET", p.url+"/ice", nil)
			for i := range tt.fields {
				r.Header.Add(fmt.Sprintf("x%d", i%2), "1")
			}
			a, err := p.send(r)
			if err != nil || a.status != tt.status || a.proto != row.proto {
				t.Errorf("%d fields: got %v, %s, status %d; want %s, %d", tt.fields, err, a.proto, a.status, row.proto, tt.status)
			}
			if tt.status == 431 && !strings.Contains(a.body, "header-too-large") {
				t.Errorf("%d fields: got %q, want a problem document", tt.fields, a.body)
			}
		}
	}
}

// waitMetric waits until a metric has at least a value.
func (p *program) waitMetric(series string, least float64) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); p.metricValue(series) < least; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: got %v, want at least %v", series, p.metricValue(series), least)
		}
	}
}

// The headers have fewer than the 500 fields that net/http accepts from Go 1.27 on.
func TestUnfinishedHeadersAreClosed(t *testing.T) {
	for _, https := range []bool{false, true} {
		p := start(t, fmt.Sprint("-https=", https), "-max-memory", fmt.Sprint(64<<20), "-metrics-bind", "127.0.0.1:0")
		for range 120 {
			var c net.Conn
			if https {
				c = p.dialTLS("http/1.1")
			} else {
				c = p.dial()
			}
			io.WriteString(c, "GET / HTTP/1.1\nHost: a\n"+strings.Repeat("abc:\n", 450))
		}
		p.waitMetric(`inbox_limited_total{limit="unfinished-headers"}`, 20)
		p.want(http.StatusOK, "GET", "/healthz", "", "")
	}
}

func TestUnfinishedHandshakesAreClosed(t *testing.T) {
	p := start(t, "-max-memory", fmt.Sprint(64<<20), "-metrics-bind", "127.0.0.1:0")
	record := append([]byte{22, 3, 1, 0x40, 0}, make([]byte, 16<<10)...)
	copy(record[5:], []byte{1, 0, 0xea, 0x60}) // a ClientHello of 60,000 bytes
	for range 40 {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write(record)
		c.Write(append([]byte{22, 3, 1, 0x40, 0}, make([]byte, 16<<10)...))
	}
	p.waitMetric(`inbox_limited_total{limit="unfinished-handshakes"}`, 20)
	p.want(http.StatusOK, "GET", "/healthz", "", "")
}

// TestClientsOfAProxyAreLimited checks the limits of connections behind a PROXY header.
func TestClientsOfAProxyAreLimited(t *testing.T) {
	p := start(t, "-https=false", "-proxy-protocol", "-trusted-proxies", "127.0.0.1", "-max-conns-per-ip", "3", "-metrics-bind", "127.0.0.1:0")
	open := func(client string) (status int) {
		c := p.dial()
		fmt.Fprintf(c, "PROXY TCP4 %s 127.0.0.1 1 2\r\nGET /ice HTTP/1.1\r\nHost: a\r\n\r\n", client)
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return 0
		}
		return resp.StatusCode
	}
	for i, want := range []int{200, 200, 200, 0, 0} {
		if got := open("192.0.2.1"); got != want {
			t.Errorf("connection %d of a client: got %d, want %d", i, got, want)
		}
	}
	if got := open("192.0.2.2"); got != 200 {
		t.Errorf("another client: got %d, want 200", got)
	}
	p.waitMetric(`inbox_limited_total{limit="connections-per-address"}`, 2)
}
