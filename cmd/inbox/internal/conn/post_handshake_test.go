package conn

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"inbox/ratelimit"
)

// Content types of TLS records (RFC 8446, section 5.1).
const (
	contentHandshake       = 22
	contentApplicationData = 23
)

// recordWriter writes TLS 1.3 records of any content after a handshake. It requires the cipher
// suite TLS_AES_128_GCM_SHA256.
type recordWriter struct {
	t      *testing.T
	c      net.Conn
	secret []byte
	seq    uint64
}

// dialRecords performs a handshake, with ALPN if protocol is not empty. The client must not write to the connection otherwise.
func dialRecords(s *testServer, protocol string) (*recordWriter, *tls.Conn) {
	s.t.Helper()
	keys, raw := &bytes.Buffer{}, s.dialTCP()
	config := &tls.Config{InsecureSkipVerify: true, KeyLogWriter: keys}
	if protocol != "" {
		config.NextProtos = []string{protocol}
	}
	c := tls.Client(raw, config)
	if err := c.Handshake(); err != nil {
		s.t.Fatal(err)
	}
	if suite := c.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		s.t.Fatalf("got %s", tls.CipherSuiteName(suite))
	}
	for line := range strings.Lines(keys.String()) {
		if fields := strings.Fields(line); fields[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(fields[2])
			if err != nil {
				s.t.Fatal(err)
			}
			return &recordWriter{t: s.t, c: raw, secret: secret}, c
		}
	}
	s.t.Fatal("no traffic secret")
	return nil, nil
}

// expand is HKDF-Expand-Label without a context (RFC 8446, section 7.1).
func (w *recordWriter) expand(label string, n int) []byte {
	label = "tls13 " + label
	info := string(binary.BigEndian.AppendUint16(nil, uint16(n))) + string(rune(len(label))) + label + "\x00"
	key, err := hkdf.Expand(sha256.New, w.secret, info, n)
	if err != nil {
		w.t.Fatal(err)
	}
	return key
}

// write writes one record.
func (w *recordWriter) write(contentType byte, content []byte) error {
	block, err := aes.NewCipher(w.expand("key", 16))
	if err != nil {
		w.t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		w.t.Fatal(err)
	}
	nonce := w.expand("iv", 12)
	for i := range 8 {
		nonce[4+i] ^= byte(w.seq >> (56 - 8*i))
	}
	w.seq++
	plain := append(bytes.Clone(content), contentType)
	header := []byte{contentApplicationData, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(header[3:], uint16(len(plain)+gcm.Overhead()))
	_, err = w.c.Write(gcm.Seal(header, nonce, plain, header))
	return err
}

// keyUpdate changes the keys of the client.
func (w *recordWriter) keyUpdate() error {
	err := w.write(contentHandshake, []byte{24, 0, 0, 1, 0})
	w.secret, w.seq = w.expand("traffic upd", 32), 0
	return err
}

// startWatchedServer serves with the layers that follow TLS messages.
func startWatchedServer(t *testing.T, unfinished *ratelimit.UnfinishedLimiter) *testServer {
	return startUnder(t, waitDeadline, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}, nil, unfinished, echo, func(l net.Listener) net.Listener {
		return LazyListener(unfinished.HandshakeListener(l), &WriteLimit{}, nil)
	})
}

func newUnfinished() *ratelimit.UnfinishedLimiter {
	return &ratelimit.UnfinishedLimiter{Share: ratelimit.NewShare(ratelimit.ShareLimits{}), ClientIP: &ratelimit.ClientIP{}}
}

// TestUnfinishedMessageAfterTheHandshake checks that a connection is closed on which a client
// begins a TLS message of 60 KB and does not finish it.
func TestUnfinishedMessageAfterTheHandshake(t *testing.T) {
	for _, row := range []struct{ name, protocol, data string }{
		{"h2", "h2", ""},
		{"http/1.1", "http/1.1", ""},
		{"TURN by its ALPN protocol", ALPNTURN, allocate},
		{"no ALPN protocol, before data", "", ""},
		{"TURN without ALPN", "", allocate},
		{"HTTP without ALPN", "", "GET"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			unfinished := newUnfinished()
			s := startWatchedServer(t, unfinished)
			w, c := dialRecords(s, row.protocol)
			if row.data != "" {
				if err := w.write(contentApplicationData, []byte(row.data)); err != nil {
					t.Fatal(err)
				}
			}
			message := append([]byte{24, 0, 0xea, 0x60}, make([]byte, 59_000)...)
			for len(message) > 0 {
				n := min(len(message), 1<<10)
				if w.write(contentHandshake, message[:n]) != nil {
					break // closed already
				}
				message = message[n:]
			}
			s.wait("the end of the connection", func() bool { return unfinished.Handshakes() == 1 })
			if _, err := io.Copy(io.Discard, c); isTimeout(err) {
				t.Error("the connection is still open")
			}
		})
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

// TestApplicationDataAfterKeyUpdates checks that clients that change their keys, and requests in
// records of any size, are served.
func TestApplicationDataAfterKeyUpdates(t *testing.T) {
	for _, protocol := range []string{"http/1.1", ""} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			testKeyUpdates(t, protocol)
		})
	}
}

func testKeyUpdates(t *testing.T, protocol string) {
	unfinished := newUnfinished()
	s := startWatchedServer(t, unfinished)
	w, c := dialRecords(s, protocol)
	responses := bufio.NewReader(c)
	request := "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 1_000_000)
	for _, size := range []int{1 << 10, 5000, 16 << 10} {
		for rest := request; rest != ""; {
			n := min(len(rest), size)
			if err := w.write(contentApplicationData, []byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
			if err := w.keyUpdate(); err != nil {
				t.Fatal(err)
			}
		}
		resp, err := http.ReadResponse(responses, nil)
		if err != nil {
			t.Fatalf("records of %d bytes: %v", size, err)
		}
		if body, _ := io.ReadAll(resp.Body); string(body) != "1000000" {
			t.Errorf("records of %d bytes: the server received %s bytes", size, body)
		}
	}
	if unfinished.Handshakes() != 0 {
		t.Errorf("got %d connections closed", unfinished.Handshakes())
	}
}

// TestSlowUploadOverHTTP2 sends the bytes of large records in small pieces.
func TestSlowUploadOverHTTP2(t *testing.T) {
	t.Parallel()
	unfinished := newUnfinished()
	s := startWatchedServer(t, unfinished)
	raw := s.dialTCP()
	client := &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(context.Context, string, string) (net.Conn, error) { return pieces{raw}, nil },
	}}
	resp, err := client.Post("https://a/", "text/plain", strings.NewReader(strings.Repeat("x", 300_000)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 {
		t.Errorf("got %s", resp.Proto)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != "300000" || unfinished.Handshakes() != 0 {
		t.Errorf("the server received %s bytes and closed %d connections", body, unfinished.Handshakes())
	}
}

// pieces writes at most 700 bytes at once.
type pieces struct{ net.Conn }

func (p pieces) Write(b []byte) (n int, err error) {
	for err == nil && n < len(b) {
		var m int
		m, err = p.Conn.Write(b[n:min(len(b), n+700)])
		n += m
		time.Sleep(time.Microsecond)
	}
	return n, err
}
