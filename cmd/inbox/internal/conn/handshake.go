package conn

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"time"

	"inbox/internal/netconn"
)

// handshakes performs TLS handshakes and hands the connections over. The number of handshakes
// in progress is bounded by the limits of the listener. The timeout begins when a connection is
// accepted, and also bounds the first byte of one without ALPN.
type handshakes struct {
	timeout time.Duration
	log     *log.Logger

	mu         sync.Mutex
	inProgress map[net.Conn]struct{}
	aborted    bool
}

// serve accepts connections until the listener fails, and starts the handshake of each.
func (h *handshakes) serve(l net.Listener, config *tls.Config, routes map[string]func(*tls.Conn)) error {
	var delay time.Duration
	for {
		c, err := l.Accept()
		if err == nil {
			delay = 0
			go h.serveConn(tls.Server(c, config), routes)
			continue
		}
		if !isTemporary(err) {
			return err
		}
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		h.log.Printf("http: Accept error: %v; retrying in %v", err, delay)
		time.Sleep(delay)
	}
}

// isTemporary reports whether Accept can succeed later, such as when a file is closed.
func isTemporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// serveConn performs the handshake of a connection and hands it over by its protocol.
func (h *handshakes) serveConn(c *tls.Conn, routes map[string]func(*tls.Conn)) {
	handedOver := false
	defer func() {
		if !handedOver {
			c.Close()
		}
	}()
	defer logPanic(c, h.log)
	if !h.handshake(c) {
		return
	}
	if serve := routes[c.ConnectionState().NegotiatedProtocol]; serve != nil {
		handedOver = true
		serve(c)
	}
}

// handshake reports whether the handshake succeeded within the timeout.
func (h *handshakes) handshake(c *tls.Conn) bool {
	defer h.end(c) // also of a panic
	if !h.begin(c) {
		return false
	}
	_ = c.SetDeadline(h.deadline(c)) // fails on a closed connection, as the handshake will
	if err := c.Handshake(); err != nil {
		h.fail(c, err)
		return false
	}
	_ = c.SetDeadline(time.Time{})
	return h.end(c)
}

// deadline returns when the timeout of a connection ends; zero is never. It begins now if no layer
// of the connection knows when it was accepted.
func (h *handshakes) deadline(c net.Conn) time.Time {
	if h.timeout <= 0 {
		return time.Time{}
	}
	begin := time.Now()
	if known, ok := netconn.Find[interface{ Accepted() time.Time }](c); ok {
		begin = known.Accepted()
	}
	return begin.Add(h.timeout)
}

// begin records a handshake, unless no further one can complete.
func (h *handshakes) begin(c net.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.aborted {
		return false
	}
	if h.inProgress == nil {
		h.inProgress = make(map[net.Conn]struct{})
	}
	h.inProgress[c] = struct{}{}
	return true
}

// end removes a handshake and reports whether its connection can be handed over.
func (h *handshakes) end(c net.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.inProgress, c)
	return !h.aborted
}

// abort closes the connections whose handshake is in progress. No further one completes.
func (h *handshakes) abort() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.aborted = true
	for c := range h.inProgress {
		closeNow(c)
	}
}

// fail logs a failed handshake in the words of net/http, by which package logging counts it. A
// client that sends HTTP receives a response.
func (h *handshakes) fail(c net.Conn, err error) {
	reason := err.Error()
	var header tls.RecordHeaderError
	if errors.As(err, &header) && header.Conn != nil && looksLikeHTTP(header.RecordHeader) {
		reason = "client sent an HTTP request to an HTTPS server"
		_, _ = io.WriteString(header.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
	}
	h.log.Printf("http: TLS handshake error from %s: %v", c.RemoteAddr(), reason)
}

// looksLikeHTTP reports whether the first bytes of a connection are those of a request.
func looksLikeHTTP(start [5]byte) bool {
	for _, method := range []string{"GET /", "HEAD ", "POST ", "PUT /", "OPTIONS", "DELETE", "PATCH", "PRI *"} {
		if strings.HasPrefix(method, string(start[:])) {
			return true
		}
	}
	return false
}
