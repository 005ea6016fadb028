package inbox_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"inbox/inbox"
)

type testKey int

// TestDetach checks that a detached request stands for the client of the request, and outlives it
// without its memory.
func TestDetach(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	server := context.WithValue(t.Context(), testKey(1), "of the server")
	for _, row := range []struct {
		name  string
		conn  context.Context
		wants any // the value that a handler has added
	}{
		{"with ConnContext", inbox.ConnContext(server, near), nil},
		{"without", server, "of the request"},
	} {
		ctx, end := context.WithCancel(context.WithValue(row.conn, testKey(2), "of the request"))
		r := httptest.NewRequest("GET", "/inbox?after=1", strings.NewReader("a body")).WithContext(ctx)
		r.RemoteAddr = "192.0.2.1:1234"
		r.Header = http.Header{"X-Forwarded-For": {"203.0.113.1", strings.Repeat("x", 600) + ", 203.0.113.2"}, "Authorization": {"Basic eDp5"}}
		d := inbox.Detach(r, []string{"X-Forwarded-For", "Forwarded"})
		end()
		if d.RemoteAddr != r.RemoteAddr || d.Context().Err() != nil || d.Body != nil || d.URL != nil {
			t.Errorf("%s: got %+v, want the address of the client, and what does not end", row.name, d)
		}
		if got := d.Header.Get("X-Forwarded-For"); len(d.Header) != 1 || len(got) != 512 || !strings.HasSuffix(got, ", 203.0.113.2") {
			t.Errorf("%s: got the fields %v, want the end of X-Forwarded-For", row.name, d.Header)
		}
		if d.Context().Value(testKey(1)) != "of the server" || d.Context().Value(testKey(2)) != row.wants {
			t.Errorf("%s: got the values %v and %v", row.name, d.Context().Value(testKey(1)), d.Context().Value(testKey(2)))
		}
	}
}
