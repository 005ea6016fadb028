// Package body reads the bodies of requests with memory for what has arrived, and bounds those in
// flight.
package body

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"

	"inbox/internal/problem"
)

// InitialBytes is how much of a body is allocated before any of it has
// arrived, so that a large Content-Length alone costs nothing.
const InitialBytes = 16 << 10

// readError translates an error of a request body. What net/http cannot parse in it is an error
// of the client.
func readError(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &tooLarge), errors.Is(err, os.ErrDeadlineExceeded):
	case errors.Is(err, context.Canceled), errors.As(err, new(net.Error)), errors.Is(err, net.ErrClosed):
	default:
		return problem.BadRequest("the body", errors.New("cannot be read: its chunks are not well formed"))
	}
	return err
}

// read reads to the end and returns a slice without spare capacity. It
// doubles the memory as it fills, up to the announced size (-1: unknown), and
// calls reserve before it allocates more than InitialBytes.
func read(r io.Reader, size int64, reserve func(int64) error) ([]byte, error) {
	body := make([]byte, 0, InitialBytes)
	for {
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err == io.EOF {
			return append(make([]byte, 0, len(body)), body...), nil
		}
		if err != nil {
			return nil, readError(err)
		}
		if len(body) == cap(body) {
			more := nextCapacity(cap(body), size)
			if err := reserve(int64(more - cap(body))); err != nil {
				return nil, err
			}
			body = append(make([]byte, 0, more), body...)
		}
	}
}

// nextCapacity returns the size to grow to from n bytes.
func nextCapacity(n int, size int64) int {
	if size > int64(n) {
		return min(2*n, int(size)+1) // one more, to see the end without growing again
	}
	return 2 * n
}
