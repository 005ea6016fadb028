package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
)

// wsConn is a WebSocket (RFC 6455) without extensions, with few allocations. One goroutine can read
// while others write.
type wsConn struct {
	conn   net.Conn
	reader *bufio.Reader
	in     []byte

	mu  sync.Mutex
	out []byte
}

// Opcodes of RFC 6455, section 11.8.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// maxFrameBytes bounds a message that the tool reads.
const maxFrameBytes = 2 << 20

func dialWebSocket(ctx context.Context, t target, source net.IP, path string) (*wsConn, error) {
	conn, err := t.dial(ctx, source, "http/1.1")
	if err != nil {
		return nil, err
	}
	c := &wsConn{conn: conn, reader: bufio.NewReaderSize(conn, 2048)}
	if err := c.upgrade(t.addr, path); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// upgrade makes the opening handshake. The answer to the key is not checked: the tool measures
// servers, and does not test them.
func (c *wsConn) upgrade(host, path string) error {
	_, err := io.WriteString(c.conn, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bG9hZHMgb2YgaXQgYWdhaQ==\r\n\r\n")
	if err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return fmt.Errorf("open WebSocket: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // for the error only
		return fmt.Errorf("open WebSocket: got %s: %s", resp.Status, text)
	}
	return nil
}

// write sends one masked frame with the parts.
func (c *wsConn) write(opcode byte, parts ...[]byte) error {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(c.out[:0], 0x80|opcode)
	switch {
	case size < 126:
		c.out = append(c.out, 0x80|byte(size))
	case size < 1<<16:
		c.out = binary.BigEndian.AppendUint16(append(c.out, 0x80|126), uint16(size))
	default:
		c.out = binary.BigEndian.AppendUint64(append(c.out, 0x80|127), uint64(size))
	}
	key := rand.Uint32()
	c.out = binary.LittleEndian.AppendUint32(c.out, key)
	begin := len(c.out)
	for _, p := range parts {
		c.out = append(c.out, p...)
	}
	mask(c.out[begin:], key)
	_, err := c.conn.Write(c.out)
	return err
}

// mask applies a key, of which the first byte is the lowest.
func mask(p []byte, key uint32) {
	wide := uint64(key)<<32 | uint64(key)
	for ; len(p) >= 8; p = p[8:] {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^wide)
	}
	for i := range p {
		p[i] ^= byte(key >> (8 * (i % 4)))
	}
}

// read returns the next message, which is valid until the next call, and answers pings.
func (c *wsConn) read() ([]byte, error) {
	for {
		opcode, payload, err := c.readFrame()
		switch {
		case err != nil:
			return nil, err
		case opcode == opPing:
			err = c.write(opPong, payload)
		case opcode == opClose:
			return nil, fmt.Errorf("closed by the server: %s", closeText(payload))
		case opcode != opPong:
			return payload, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func closeText(payload []byte) string {
	if len(payload) < 2 {
		return "no code"
	}
	return fmt.Sprintf("%d %s", binary.BigEndian.Uint16(payload), payload[2:])
}

func (c *wsConn) readFrame() (opcode byte, payload []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(c.reader, head[:2]); err != nil {
		return 0, nil, err
	}
	if head[0]&0x80 == 0 || head[1]&0x80 != 0 {
		return 0, nil, errors.New("got a fragment or a masked frame, want a message")
	}
	opcode, size := head[0]&15, uint64(head[1])
	switch size {
	case 126:
		_, err = io.ReadFull(c.reader, head[:2])
		size = uint64(binary.BigEndian.Uint16(head[:2]))
	case 127:
		_, err = io.ReadFull(c.reader, head[:8])
		size = binary.BigEndian.Uint64(head[:8])
	}
	if err == nil && size > maxFrameBytes {
		err = fmt.Errorf("got a frame of %d bytes, want at most %d", size, maxFrameBytes)
	}
	if err != nil {
		return 0, nil, err
	}
	if uint64(cap(c.in)) < size {
		c.in = make([]byte, size)
	}
	c.in = c.in[:size]
	_, err = io.ReadFull(c.reader, c.in)
	return opcode, c.in, err
}

// readUntil reads messages until one begins with the prefix, and returns what follows it.
func (c *wsConn) readUntil(prefix string) ([]byte, error) {
	for {
		m, err := c.read()
		if err != nil {
			return nil, fmt.Errorf("wait for %q: %w", prefix, err)
		}
		if rest, ok := bytes.CutPrefix(m, []byte(prefix)); ok {
			return rest, nil
		}
		if isFailure(m) {
			return nil, fmt.Errorf("wait for %q: got %q", prefix, m)
		}
	}
}

// isFailure reports whether a message of inbox.1 ends or refuses something.
func isFailure(m []byte) bool {
	return bytes.HasPrefix(m, []byte("fail ")) || bytes.HasPrefix(m, []byte("end "))
}

func (c *wsConn) close() { _ = c.conn.Close() }
