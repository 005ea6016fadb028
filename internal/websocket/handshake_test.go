package websocket

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestOpeningHandshake(t *testing.T) {
	for _, row := range []struct {
		name, change, to string
		protocol         string
	}{
		{name: "as of RFC 6455"},
		{name: "case does not matter", change: "Upgrade: websocket", to: "Upgrade: WebSocket"},
		{name: "a list of protocols", change: "Upgrade: websocket", to: "Upgrade: foo, websocket"},
		{name: "two lines", change: "Connection: keep-alive, Upgrade", to: "Connection: keep-alive\r\nConnection: upgrade"},
		{name: "an empty host", change: "Host: h", to: "Host:"},
		{name: "a subprotocol", change: "Host: h", to: "Host: h\r\nSec-WebSocket-Protocol: foo, b\r\nSec-WebSocket-Protocol: a", protocol: "b"},
		{name: "an unknown subprotocol", change: "Host: h", to: "Host: h\r\nSec-WebSocket-Protocol: foo"},
		{name: "compression offered", change: "Host: h", to: "Host: h\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newTestServer(t, "plain", Config{Protocols: []string{"a", "b"}}, echoHandler)
			c := s.dialRequest(t, strings.Replace(upgradeRequest, row.change, row.to, 1)+"\r\n")
			h := c.resp.Header
			if c.resp.StatusCode != http.StatusSwitchingProtocols || h.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" ||
				h.Get("Sec-WebSocket-Protocol") != row.protocol || h.Get("Sec-WebSocket-Extensions") != "" {
				t.Fatalf("got %s, %v", c.resp.Status, h)
			}
			c.send(text("hello"))
			c.wantFrame(fin|opText, "hello")
		})
	}
}

func TestInvalidHandshake(t *testing.T) {
	for _, row := range []struct {
		name, change, to string
		status           int
	}{
		{"HTTP/1.0", "HTTP/1.1", "HTTP/1.0", 400},
		{"POST", "GET", "POST", 405},
		{"no upgrade", "Upgrade: websocket\r\n", "", 400},
		{"another protocol", "websocket", "h2c", 400},
		{"no connection", "Connection: keep-alive, Upgrade\r\n", "", 400},
		{"a body", "Host: h", "Host: h\r\nContent-Length: 1", 400},
		{"a chunked body", "Host: h", "Host: h\r\nTransfer-Encoding: chunked", 400},
		{"an old version", "Version: 13", "Version: 8", 426},
		{"two versions", "Version: 13", "Version: 13, 8", 426},
		{"no version", "Sec-WebSocket-Version: 13\r\n", "", 426},
		{"no key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400},
		{"a short key", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBs", 400},
		{"no base64", "dGhlIHNhbXBsZSBub25jZQ==", "!!!!!!!!!!!!!!!!!!!!!!==", 400},
		{"two keys", "Host: h", "Host: h\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newTestServer(t, "plain", Config{}, echoHandler)
			c := s.dialRequest(t, strings.Replace(upgradeRequest, row.change, row.to, 1)+"\r\n0\r\n\r\n")
			if c.resp.StatusCode != row.status {
				t.Errorf("got %s, want %d", c.resp.Status, row.status)
			}
			if v := c.resp.Header.Get("Sec-WebSocket-Version"); (v == "13") != (row.status == 426) {
				t.Errorf("got Sec-WebSocket-Version %q with status %d", v, c.resp.StatusCode)
			}
			if row.status == 405 && c.resp.Header.Get("Allow") != "GET" {
				t.Errorf("got Allow %q", c.resp.Header.Get("Allow"))
			}
		})
	}
}

func TestCheckRefusesHTTP2(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.ProtoMajor, r.ProtoMinor = 2, 0
	var refused *HandshakeError
	if err := Check(r); !errors.As(err, &refused) || refused.Status != 400 {
		t.Errorf("got %v, want a HandshakeError", err)
	}
}

func TestUpgradeWithoutConnection(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	for name, value := range map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	} {
		r.Header.Set(name, value)
	}
	if c, err := Upgrade(httptest.NewRecorder(), r, &Config{MaxMessageBytes: 1}); c != nil || err == nil {
		t.Errorf("got %v, %v, want an error", c, err)
	}
}

// TestFramesBehindTheHandshake checks what net/http has read already.
func TestFramesBehindTheHandshake(t *testing.T) {
	for _, transport := range transports {
		s := newTestServer(t, transport, Config{}, echoHandler)
		part := string(text("second")[:5])
		c := s.dial(t, string(text("first")), part)
		c.wantFrame(fin|opText, "first")
		c.send(text("second")[5:])
		c.wantFrame(fin|opText, "second")
	}
}
