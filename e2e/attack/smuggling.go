package attack

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"time"
)

// smugglingCase is a request that two servers could parse differently.
type smugglingCase struct{ name, request string }

// smugglingCases returns the known forms of such requests.
func smugglingCases() []smugglingCase {
	post := requestHead("POST", "/inbox?to=good", "smuggler")
	get := requestHead("GET", "/inbox?wait=0", "smuggler")
	return []smugglingCase{
		{"a length and chunks", post + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"chunks and a length", post + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"},
		{"two lengths", post + "Content-Length: 0\r\nContent-Length: 5\r\n\r\n"},
		{"two lengths in one field", post + "Content-Length: 0, 5\r\n\r\n"},
		{"a length with a sign", post + "Content-Length: +0\r\n\r\n"},
		{"a negative length", post + "Content-Length: -1\r\n\r\n"},
		{"a length in hex", post + "Content-Length: 0x0\r\n\r\n"},
		{"an empty length", post + "Content-Length:\r\n\r\n"},
		{"two encodings", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"},
		{"an unknown encoding", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"},
		{"gzip and chunks", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
		{"a tab in the encoding", post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"},
		{"a space before the colon", post + "Content-Length : 5\r\n\r\n"},
		{"a folded field", post + "X-Folded: a\r\n Content-Length: 5\r\n\r\n"},
		{"a field without a name", get + ": x\r\n\r\n"},
		{"a line without a colon", get + "nonsense\r\n\r\n"},
		{"a lone CR in a field", get + "X-A: b\rContent-Length: 5\r\n\r\n"},
		{"a NUL in a field", get + "X-A: b\x00c\r\n\r\n"},
		{"a bad chunk size", post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"},
		{"a chunk size with a sign", post + "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n"},
		{"a chunk size with 0x", post + "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n"},
		{"a chunk size that overflows", post + "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n"},
		{"a chunk without its end", post + "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n"},
		{"a chunk ended with LF", post + "Transfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n"},
		{"two hosts", get + "Host: other\r\n\r\n"},
		{"no host", "GET /inbox?wait=0 HTTP/1.1\r\nAuthorization: " + basic("smuggler") + "\r\n\r\n"},
		{"HTTP/1.0 with chunks", strings.Replace(post, "HTTP/1.1", "HTTP/1.0", 1) + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"HTTP/9", strings.Replace(get, "HTTP/1.1", "HTTP/9.9", 1) + "\r\n"},
		{prefaceCase, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
		{"a space in the target", "GET /inbox?wait=0 x HTTP/1.1\r\nHost: inbox\r\n\r\n"},
		{"an absolute URL of another host", "GET http://other/inbox?wait=0 HTTP/1.1\r\nHost: inbox\r\n\r\n"},
		{"CONNECT", "CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n"},
		{"an upgrade to h2c", get + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"},
	}
}

// acceptedStatus contains the cases that every server parses as one request, or rejects,
// and the status of the first response. More responses can follow.
var acceptedStatus = map[string]int{
	"an empty length":                 http.StatusOK,
	"an absolute URL of another host": http.StatusUnauthorized,
	"CONNECT":                         http.StatusMethodNotAllowed,
	"an upgrade to h2c":               http.StatusNoContent,
	"a chunk ended with LF":           http.StatusOK,
	"a folded field":                  http.StatusOK,
	"HTTP/1.0 with chunks":            http.StatusOK,
	"a length and chunks":             http.StatusOK,
	"chunks and a length":             http.StatusOK,
	"a lone CR in a field":            http.StatusBadRequest,
	"two lengths in one field":        http.StatusBadRequest,
}

// prefaceCase is refused with a response of HTTP/2, which is none of HTTP/1.1.
const prefaceCase = "HTTP/2's preface"

// smuggling sends each case with a second request behind it. The server must refuse the
// request and close the connection, or respond with the status in acceptedStatus.
func smuggling(ctx context.Context, s *scenario) {
	refused, cases := 0, smugglingCases()
	for i, tc := range cases {
		statuses := s.sendPipelined(ctx, attackerAddr(i), tc.request)
		if len(statuses) == 1 && statuses[0] >= 400 || len(statuses) == 0 && tc.name == prefaceCase { // refused in frames
			refused++
			continue
		}
		if want, ok := acceptedStatus[tc.name]; !ok || len(statuses) == 0 || statuses[0] != want {
			s.fail("%s: got %v, want one refusal and no further response", tc.name, statuses)
		}
	}
	s.addFigure("%d forms: %d refused and disconnected, %d read as one request", len(cases), refused, len(cases)-refused)
}

// sendPipelined sends a request and a second one behind it, and returns the statuses of all
// responses until the server closes the connection.
func (s *scenario) sendPipelined(ctx context.Context, from, request string) (statuses []int) {
	c, err := s.dial(ctx, from, "http/1.1")
	if err != nil {
		s.fail("connect: %v", err)
		return nil
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(3 * time.Second))
	second := "GET /healthz HTTP/1.1\r\nHost: inbox\r\nConnection: close\r\n\r\n"
	if _, err := io.WriteString(c, request+second); err != nil {
		return nil
	}
	reader := bufio.NewReader(c)
	for {
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			return statuses
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		statuses = append(statuses, resp.StatusCode)
	}
}
