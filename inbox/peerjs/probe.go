package peerjs

import (
	"context"
	"crypto/rand"
	"time"

	"inbox/inbox"
	"inbox/internal/websocket"
)

// judge returns the verdict for a newcomer, and pings the connection if that decides: its answer
// within two seconds keeps the id.
func (s *session) judge(ctx context.Context, token inbox.Key, payer string) (verdict, error) {
	if v := s.owner().decide(token, payer, s.h.timing.grace); v != unknown {
		return v, nil
	}
	began := s.h.now()
	p := s.startProbe()
	if p == nil {
		return unknown, errAgain
	}
	timer := time.NewTimer(s.h.timing.probe)
	defer timer.Stop()
	select {
	case <-p.done:
		if p.alive {
			return taken, nil
		}
		return unknown, errAgain // the connection has just ended
	case <-timer.C:
	case <-ctx.Done():
		return unknown, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.throttledAt >= began {
		return taken, nil // frames arrive, and the pong is behind them
	}
	return freed, nil
}

// grant is a promise of the id to a token, which lasts until its node can have taken it.
type grant struct {
	token inbox.Key
	until time.Time
}

// promise returns the verdict for a newcomer, so that one of several gets the id: while it is
// promised to one, it is taken for others than the token that had it.
func (s *session) promise(v verdict, token inbox.Key) verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v != resumed && v != freed || token == s.token {
		return v
	}
	now := time.Now()
	if s.granted != nil && now.Before(s.granted.until) && s.granted.token != token {
		return taken
	}
	s.granted = &grant{token, now.Add(s.h.timing.ask)}
	return v
}

// startProbe returns the outstanding probe, or sends one. It is nil without a connection.
func (s *session) startProbe() *probe {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil
	}
	if s.probe == nil {
		s.probe = &probe{done: make(chan struct{})}
		rand.Read(s.probe.payload[:])
		go func(conn *websocket.Conn, payload []byte) {
			_ = conn.Ping(payload) // can wait for a client that does not read
		}(s.conn, s.probe.payload[:])
	}
	return s.probe
}

func (s *session) isProbe(payload []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.probe != nil && string(payload) == string(s.probe.payload[:])
}

// endProbe answers the outstanding probe, if any.
func (s *session) endProbe(alive bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.probe != nil {
		s.probe.alive = alive
		close(s.probe.done)
		s.probe = nil
	}
}
