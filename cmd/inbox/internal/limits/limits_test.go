package limits

import (
	"net"
	"net/http"
	"testing"

	"inbox/cmd/inbox/internal/conn"
	"inbox/ratelimit"
)

// TestRequestsUseTheConnectionsBucket checks that requests of HTTP/1.1 and HTTP/2 and frames of a
// WebSocket take tokens of the bucket that their connection remembers.
func TestRequestsUseTheConnectionsBucket(t *testing.T) {
	clientIP := &ratelimit.ClientIP{}
	l := New(Config{Rate: 1, Burst: 3}, clientIP, conn.NewClientResolver(clientIP, nil))
	server, client := net.Pipe()
	defer server.Close()
	defer client.Close()
	r := (&http.Request{RemoteAddr: "192.0.2.1:1"}).WithContext(conn.WithInfo(t.Context(), server))
	if c := l.Requests.Client(r); c == nil || c != l.Requests.Client(r) {
		t.Fatalf("got the clients %v and %v of a connection, want one", c, l.Requests.Client(r))
	}
	for i := range 4 {
		if _, again := l.Requests.Delay(r); again != (i == 3) {
			t.Errorf("token %d: got refused %v", i+1, again)
		}
	}
}
