package websocket

import (
	"bufio"
	"cmp"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"

	"inbox/internal/netconn"
	"inbox/internal/problem"

	"github.com/gobwas/ws"
)

// version is the only version of the protocol that was ever standardized.
const version = "13"

// UpgradeRequired is the kind of the problem of another version.
const UpgradeRequired = "upgrade-required"

// HandshakeError is a request that is no valid opening handshake. The caller writes the response.
type HandshakeError struct {
	// Status is that of the response: 400, 405 or 426.
	Status int
	Reason string
}

func (e *HandshakeError) Error() string { return "websocket: " + e.Reason }

// SetHeader sets the fields of the response that its status requires (RFC 6455, section 4.4).
func (e *HandshakeError) SetHeader(h http.Header) {
	switch e.Status {
	case http.StatusUpgradeRequired:
		h.Set("Sec-WebSocket-Version", version)
		h.Set("Upgrade", "websocket")
		h.Set("Connection", "Upgrade")
	case http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodGet)
	}
}

// Problem returns the problem document of the response.
func (e *HandshakeError) Problem() *problem.Problem {
	switch e.Status {
	case http.StatusUpgradeRequired:
		return errVersion
	case http.StatusMethodNotAllowed:
		return problem.MethodNotAllowed
	}
	return problem.BadRequest("the opening handshake", errors.New("is invalid: "+e.Reason))
}

var errVersion = problem.New(http.StatusUpgradeRequired, UpgradeRequired, "This version of WebSocket is not known",
	"The server speaks version 13, that of RFC 6455.")

// IsUpgrade reports whether a request asks for a WebSocket, validly or not.
func IsUpgrade(r *http.Request) bool { return hasToken(r.Header["Upgrade"], "websocket") }

// Check returns a [HandshakeError] if the request is no valid opening handshake (RFC 6455, section
// 4.2.1).
func Check(r *http.Request) error {
	switch {
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return &HandshakeError{http.StatusBadRequest, "a WebSocket needs HTTP/1.1"}
	case r.Method != http.MethodGet:
		return &HandshakeError{http.StatusMethodNotAllowed, "the method of an opening handshake is GET"}
	case !IsUpgrade(r) || !hasToken(r.Header["Connection"], "upgrade"):
		return &HandshakeError{http.StatusBadRequest, "the fields Upgrade and Connection of an opening handshake are missing"}
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return &HandshakeError{http.StatusBadRequest, "an opening handshake has no body"}
	case !slices.Equal(r.Header["Sec-Websocket-Version"], []string{version}):
		return &HandshakeError{http.StatusUpgradeRequired, "the version of the protocol must be " + version}
	case !isKey(r.Header["Sec-Websocket-Key"]):
		return &HandshakeError{http.StatusBadRequest, "Sec-WebSocket-Key is not the base64 of 16 bytes"}
	}
	return nil
}

// isKey reports whether the field is there once, with 16 bytes of base64.
func isKey(values []string) bool {
	if len(values) != 1 {
		return false
	}
	key, err := base64.StdEncoding.DecodeString(values[0])
	return err == nil && len(key) == 16
}

// hasToken reports whether a field that is a list has a token.
func hasToken(values []string, token string) bool {
	for v := range listed(values) {
		if strings.EqualFold(v, token) {
			return true
		}
	}
	return false
}

// listed yields the elements of a field that is a list.
func listed(values []string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, line := range values {
			for v := range strings.SplitSeq(line, ",") {
				if !yield(strings.Trim(v, " \t")) {
					return
				}
			}
		}
	}
}

// Upgrade performs the opening handshake and hijacks the connection, on which nothing is read
// until [Conn.Start]. It returns a [HandshakeError], with nothing written, if the request is
// invalid. After other errors, the connection is closed. Extensions are ignored. Fields that w has
// are not sent.
func Upgrade(w http.ResponseWriter, r *http.Request, config *Config) (*Conn, error) {
	if err := Check(r); err != nil {
		return nil, err
	}
	protocol := selectProtocol(r.Header["Sec-Websocket-Protocol"], config.Protocols)
	upgrader := ws.HTTPUpgrader{Timeout: config.WriteTimeout, Protocol: func(string) bool { return true }}
	conn, rw, _, err := upgrader.Upgrade(checkedRequest(r, protocol), w)
	if err != nil {
		if conn != nil {
			conn.Close()
		}
		return nil, err
	}
	netconn.Hijacked(conn)
	return newConn(conn, config, protocol, earlyBytes(rw.Reader)), nil
}

// selectProtocol returns the first subprotocol of the client's that the server has, or "".
func selectProtocol(offered, served []string) string {
	for protocol := range listed(offered) {
		if slices.Contains(served, protocol) {
			return protocol
		}
	}
	return ""
}

// checkedRequest returns the request as the upgrader needs it, which looks at the first line of a
// field only, and refuses the empty Host field that HTTP/1.1 allows.
func checkedRequest(r *http.Request, protocol string) *http.Request {
	header := http.Header{
		"Upgrade": {"websocket"}, "Connection": {"Upgrade"},
		"Sec-Websocket-Version": {version}, "Sec-Websocket-Key": r.Header["Sec-Websocket-Key"],
	}
	if protocol != "" {
		header["Sec-Websocket-Protocol"] = []string{protocol}
	}
	return &http.Request{Method: http.MethodGet, ProtoMajor: 1, ProtoMinor: 1, Host: cmp.Or(r.Host, "localhost"), Header: header}
}

// earlyBytes returns what net/http has read beyond the request. Nothing of the reader may be kept:
// it refers to the request and its connection.
func earlyBytes(r *bufio.Reader) []byte {
	n := r.Buffered()
	if n == 0 {
		return nil
	}
	early := make([]byte, n)
	_, _ = r.Read(early) // copies what is buffered
	return early
}
