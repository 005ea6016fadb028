package websocket

import (
	"context"
	"errors"
	"sync"
)

// Conns tracks connections, which net/http does not after it has handed them over. The zero value
// is ready to use. All methods can be called concurrently.
type Conns struct {
	mu      sync.Mutex
	open    map[*Conn]struct{}
	closing bool
	empty   chan struct{} // closed when no connection is open; nil unless Wait waits
}

// closers bounds the close frames that are being written at once.
const closers = 32

var errAborted = errors.New("websocket: aborted by the server")

// Len returns how many connections are open.
func (s *Conns) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// add adds a connection and reports whether it can stay open.
func (s *Conns) add(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*Conn]struct{})
	}
	s.open[c] = struct{}{}
	return !s.closing
}

func (s *Conns) remove(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	if len(s.open) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// Close closes all connections with a close frame, and those that follow with [GoingAway]. It
// returns when all frames are written, which takes as long as [Config.WriteTimeout] for clients
// that do not read.
func (s *Conns) Close(code uint16, reason string) {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.each(func(c *Conn) { c.Close(code, reason) })
}

// Wake calls [Conn.Wake] of all connections.
func (s *Conns) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		c.Wake()
	}
}

// Wait waits until no connection is open. When ctx is done, it aborts those that are, and returns
// the error of ctx.
func (s *Conns) Wait(ctx context.Context) error {
	s.mu.Lock()
	if len(s.open) == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	empty := s.empty
	s.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		s.Abort()
		return ctx.Err()
	}
}

// Abort closes all connections without a close frame.
func (s *Conns) Abort() { s.each(func(c *Conn) { c.abort(errAborted) }) }

// each calls a function with all connections, some of them concurrently.
func (s *Conns) each(do func(*Conn)) {
	s.mu.Lock()
	conns := make(chan *Conn, len(s.open))
	for c := range s.open {
		conns <- c
	}
	s.mu.Unlock()
	close(conns)
	var workers sync.WaitGroup
	for range min(closers, len(conns)) {
		workers.Go(func() {
			for c := range conns {
				do(c)
			}
		})
	}
	workers.Wait()
}
