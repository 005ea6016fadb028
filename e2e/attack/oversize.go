package attack

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// oversizeCase is a request with an oversized element.
type oversizeCase struct {
	name    string
	request string
	want    []int // accepted statuses; 0: connection closed without a response
}

// oversizeCases returns the cases for the default limits.
func oversizeCases() []oversizeCase {
	mine := func(method, target string) string { return requestHead(method, target, "big") }
	fields := func(n int) string { return strings.Repeat("X-A: b\r\n", n) }
	x := func(n int) string { return strings.Repeat("x", n) }
	chunked := mine("POST", "/inbox?to=big") + "Transfer-Encoding: chunked\r\n\r\n"
	return []oversizeCase{
		{"a header of 17 KiB", mine("GET", "/inbox?wait=0") + "X-Big: " + x(17<<10) + "\r\n\r\n", []int{431}},
		{"a header of 10 MiB", mine("GET", "/inbox?wait=0") + "X-Big: " + x(10<<20) + "\r\n\r\n", []int{431, 0}},
		{"9000 fields", mine("GET", "/inbox?wait=0") + fields(9000) + "\r\n", []int{431}},
		{"a path of 1 MiB", mine("GET", "/"+x(1<<20)) + "\r\n", []int{431, 0}},
		{"a query of 14 KiB", mine("GET", "/inbox?wait=0&"+x(14<<10)) + "\r\n", []int{200, 204}},
		{"7000 parameters", mine("GET", "/inbox?wait=0"+strings.Repeat("&a", 7000)) + "\r\n", []int{200, 204}},
		{"a query of 1 MiB", mine("GET", "/inbox?"+x(1<<20)) + "\r\n", []int{431, 0}},
		{"a recipient of 257 bytes", mine("POST", "/inbox?to="+x(257)) + "Content-Length: 0\r\n\r\n", []int{400}},
		{"a name of 257 bytes", requestHead("GET", "/inbox?wait=0", x(257)) + "\r\n", []int{400}},
		{"a name of 5 KiB", requestHead("GET", "/inbox?wait=0", x(5<<10)) + "\r\n", []int{400}},
		{"an ID of 10,000 digits", mine("GET", "/inbox?wait=0&after="+strings.Repeat("9", 10000)) + "\r\n", []int{200, 204}},
		{"a wait of 10,000 digits", mine("DELETE", "/inbox?wait="+strings.Repeat("9", 10000)) + "\r\n", []int{204}},
		{"a content type of 14 KiB", mine("POST", "/inbox?to=good") + "Content-Type: text/" + x(14<<10) + "\r\nContent-Length: 1\r\n\r\nx", []int{200}},
		{"a body of 1 MiB and a byte", mine("POST", "/inbox?to=good") + "Content-Length: 1048577\r\n\r\n" + x(1<<20+1), []int{413}},
		{"a Content-Length of 8 EiB", mine("POST", "/inbox?to=good") + "Content-Length: 9223372036854775807\r\n\r\nx", []int{413}},
		{"a Content-Length above 8 EiB", mine("POST", "/inbox?to=good") + "Content-Length: 99999999999999999999\r\n\r\nx", []int{400}},
		{"a chunked body of 8 MiB", chunked + "800000\r\n" + x(8<<20) + "\r\n0\r\n\r\n", []int{413}},
		{"a chunk size of 8 EiB", chunked + "7fffffffffffffff\r\n" + x(1<<21), []int{413, 400}},
		{"chunks of a byte", chunked + strings.Repeat("1\r\nx\r\n", 40000) + "0\r\n\r\n", []int{200, 400, 404, 413}},
		{"chunk extensions of 1 MiB", chunked + "1;" + x(1<<20) + "\r\nx\r\n0\r\n\r\n", []int{400, 0}},
		{"trailers of 1 MiB", chunked + "1\r\nx\r\n0\r\nX-T: " + x(1<<20) + "\r\n\r\n", []int{400, 404, 431, 0}},
		{"a method of 14 KiB", requestHead(x(14<<10), "/inbox", "big") + "\r\n", []int{405, 400}},
	}
}

// oversize sends each case and checks the response.
func oversize(ctx context.Context, s *scenario) {
	cases := oversizeCases()
	for i, b := range cases {
		got, err := s.roundTrip(ctx, attackerAddr(i), b.request)
		if !containsStatus(got, b.want) {
			s.fail("%s: got %d (%v), want one of %v", b.name, got, err, b.want)
		}
	}
	s.addFigure("%d cases, each refused or harmless", len(cases))
	s.oversizeHTTP2(ctx)
}

// roundTrip sends a request on a new connection and returns the status of the response, or 0
// without a response.
func (s *scenario) roundTrip(ctx context.Context, from, request string) (int, error) {
	c, err := s.dial(ctx, from, "http/1.1")
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	go io.WriteString(c, request) // the server can respond before it has read everything
	status, _, err := newHTTP1Conn(c).readResponse()
	return status, err
}

func containsStatus(got int, want []int) bool {
	for _, status := range want {
		if got == status {
			return true
		}
	}
	return false
}

// oversizeHTTP2 sends headers that HPACK compresses well.
func (s *scenario) oversizeHTTP2(ctx context.Context) {
	f, err := s.dialHTTP2(ctx, attackerAddr(200))
	if err != nil {
		s.fail("HTTP/2: %v", err)
		return
	}
	defer f.Close()
	go f.readFrames()
	for i := range 20 {
		// HPACK stores the first field, and the others refer to it: a few bytes decode to a
		// megabyte.
		fields := fillerFields(1 << 20)
		for k := range fields {
			fields[k].Sensitive = false
		}
		if _, err := f.openStream("GET", "/inbox?wait=0", fmt.Sprint("bomb", i), true, fields...); err != nil {
			break
		}
	}
	select {
	case <-f.closed:
	case <-time.After(2 * time.Second):
	}
	s.addFigure("20 compressed headers of 1 MiB: %d responses, GOAWAY code %d", f.responses.Load(), f.goAway.Load()-1)
}
