package attack

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Opcodes of RFC 6455.
const (
	opContinuation = 0
	opText         = 1
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// wsConn is a WebSocket without the checks of a client.
type wsConn struct {
	*http1Conn
	ref int
}

// upgradeRequest is an opening handshake. fields are further header lines.
func upgradeRequest(fields string) string {
	return "GET /inbox HTTP/1.1\r\nHost: inbox\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: inbox.1\r\n" + fields + "\r\n"
}

// dialWS makes a WebSocket. Its status is that of the response.
func (s *scenario) dialWS(ctx context.Context, from, fields string) (w *wsConn, status int, err error) {
	c, err := s.dial(ctx, from, "http/1.1")
	if err != nil {
		return nil, 0, err
	}
	return startWS(c, fields)
}

// startWS performs the opening handshake.
func startWS(c net.Conn, fields string) (w *wsConn, status int, err error) {
	w = &wsConn{http1Conn: newHTTP1Conn(c)}
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err = io.WriteString(c, upgradeRequest(fields)); err == nil {
		var resp *http.Response
		if resp, err = http.ReadResponse(w.reader, nil); err == nil {
			status = resp.StatusCode
			if status == http.StatusSwitchingProtocols && resp.Header.Get("Sec-WebSocket-Extensions") != "" {
				err = errors.New("the server selected an extension")
			}
		}
	}
	if err != nil || status != http.StatusSwitchingProtocols {
		c.Close()
		return nil, status, err
	}
	c.SetDeadline(time.Time{})
	return w, status, nil
}

// helloWS makes a WebSocket and opens a mailbox.
func (s *scenario) helloWS(ctx context.Context, from, name, params string) (*wsConn, error) {
	w, status, err := s.dialWS(ctx, from, "")
	if err == nil && w == nil {
		err = fmt.Errorf("upgrade: got %d", status)
	}
	if err != nil {
		return nil, err
	}
	return w, w.hello(name, params)
}

func (w *wsConn) hello(name, params string) error {
	w.SetDeadline(time.Now().Add(30 * time.Second))
	defer w.SetDeadline(time.Time{})
	if err := w.text("hello " + name + " " + url.PathEscape("password of "+name) + params); err != nil {
		return err
	}
	_, answer, err := w.readFrame()
	if err == nil && !strings.HasPrefix(answer, "welcome ") {
		w.Close()
		err = fmt.Errorf("hello: got %q", answer)
	}
	return err
}

// wsFrame returns a frame with a mask of zeros. first has the opcode and the bits before it.
func wsFrame(first byte, payload string) string {
	return string(wsHeader(first, uint64(len(payload)))) + payload
}

// wsHeader returns the header of a frame with any length, with a mask of zeros.
func wsHeader(first byte, length uint64) []byte {
	b := []byte{first}
	switch {
	case length < 126:
		b = append(b, 0x80|byte(length))
	case length < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(length))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), length)
	}
	return append(b, 0, 0, 0, 0)
}

const fin = 0x80

// text writes a text message.
func (w *wsConn) text(payload string) error {
	_, err := io.WriteString(w, wsFrame(fin|opText, payload))
	return err
}

// send writes a send with the next REF.
func (w *wsConn) send(to, body string) error {
	w.ref++
	return w.text(fmt.Sprintf("send %d %s text %s", w.ref, to, body))
}

// readFrame reads a frame of the server.
func (w *wsConn) readFrame() (op byte, payload string, err error) {
	var head [2]byte
	if _, err = io.ReadFull(w.reader, head[:]); err != nil {
		return 0, "", err
	}
	length := uint64(head[1] & 0x7f)
	if more := map[uint64]int{126: 2, 127: 8}[length]; more > 0 {
		var size [8]byte
		if _, err = io.ReadFull(w.reader, size[8-more:]); err != nil {
			return 0, "", err
		}
		length = binary.BigEndian.Uint64(size[:])
	}
	if length > 16<<20 {
		return 0, "", fmt.Errorf("a frame of %d bytes", length)
	}
	content := make([]byte, length)
	_, err = io.ReadFull(w.reader, content)
	return head[0] & 15, string(content), err
}

// hangUp closes the connection below TLS, whose own close waits for a server that does not read.
func (w *wsConn) hangUp() {
	if over, ok := w.Conn.(*tls.Conn); ok {
		over.NetConn().Close()
	}
	w.Close()
}

// closeCode reads until the connection ends, and returns the code of the close frame, or 0 without
// one. An error is a connection that stays open.
func (w *wsConn) closeCode(d time.Duration) (code int, err error) {
	w.SetReadDeadline(time.Now().Add(d))
	for {
		op, payload, err := w.readFrame()
		switch {
		case isTimeout(err):
			return code, fmt.Errorf("still open after %v", d)
		case err != nil:
			return code, nil
		case op == opClose && len(payload) >= 2:
			code = int(payload[0])<<8 | int(payload[1])
		}
	}
}
