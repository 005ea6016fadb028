package server

import (
	"testing"
	"time"
)

func TestMainServerTimeouts(t *testing.T) {
	srv := newTestServer(t)
	s := srv.main.server
	if s.ReadHeaderTimeout != 10*time.Second || s.IdleTimeout != 2*time.Minute {
		t.Errorf("header %v, idle %v; want 10s, 2m", s.ReadHeaderTimeout, s.IdleTimeout)
	}
	if s.WriteTimeout != 0 || srv.limits.Writes.Timeout != 30*time.Second {
		t.Errorf("got write timeouts %v and %v, want none and 30s", s.WriteTimeout, srv.limits.Writes.Timeout)
	}
	if s.HTTP2.MaxConcurrentStreams != 100 || s.HTTP2.SendPingTimeout == 0 || s.HTTP2.MaxReadFrameSize != 16<<10 {
		t.Errorf("HTTP/2 limits are not set: %+v", s.HTTP2)
	}
}

func TestRedirectServerTimeouts(t *testing.T) {
	s := newDomainServer(t).redirect.server
	if s.ReadHeaderTimeout != 10*time.Second || s.IdleTimeout != 2*time.Minute || s.MaxHeaderBytes != 12<<10 {
		t.Errorf("got header %v, idle %v, %d bytes; want 10s, 2m, 16 KiB less the 4 KiB that net/http adds", s.ReadHeaderTimeout, s.IdleTimeout, s.MaxHeaderBytes)
	}
}
