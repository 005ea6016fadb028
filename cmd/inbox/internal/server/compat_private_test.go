package server

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/metrics"
	"inbox/inbox/invite"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"
)

// TestInvitationsOfOtherClients has clients of PeerJS and of topics connect to a private server.
// Their invitations are neither in the log nor in a metric, refusals are counted, and an invitation
// that is revoked ends the connections.
func TestInvitationsOfOtherClients(t *testing.T) {
	var log syncBuffer
	p, dir := testProcess(), t.TempDir()
	p.Stderr = &log
	token, _, err := invite.Add(t.Context(), invite.NewFile(dir), "anna", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := build(t, p, resolve(t, "-compat=peerjs,topics", "-access=invited", "-state="+dir, "-https=false", "-log-level=debug"), nil)
	go s.access.Run(t.Context())
	server := httptest.NewServer(s.main.server.Handler)
	defer server.Close()
	dial := func(path string) (ws.Dialer, string) {
		return ws.Dialer{Timeout: 30 * time.Second}, "ws" + strings.TrimPrefix(server.URL, "http") + path
	}
	refused := "/topics?invite=" + token[:30]
	d, url := dial(refused)
	if _, _, _, err := d.Dial(t.Context(), url); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("a truncated invitation: got %v, want 403", err)
	}
	w := httptest.NewRecorder()
	s.main.server.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/"+token[:30]+"/id", nil))
	if w.Code != http.StatusForbidden {
		t.Errorf("an id: got %d, want 403", w.Code)
	}
	var ends []chan error
	for _, path := range []string{"/topics?invite=" + token, "/peerjs?key=" + token + "&id=anna&token=t"} {
		d, url := dial(path)
		conn, br, _, err := d.Dial(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		end := make(chan error, 1)
		ends = append(ends, end)
		go func() { end <- untilClose(conn, br) }()
	}
	if _, err := invite.Revoke(t.Context(), invite.NewFile(dir), "anna", time.Now()); err != nil {
		t.Fatal(err)
	}
	for i, end := range ends {
		if err := <-end; err != nil {
			t.Errorf("connection %d: %v, want a close frame", i, err)
		}
	}
	counts := s.refusals()
	if counts["invitation-required"] != 2 || counts["invitation-expired"] == 0 {
		t.Errorf("got the refusals %v", counts)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.NewCollector(s.metricsSources()))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	text := log.String()
	for _, family := range families {
		text += family.String()
	}
	if strings.Contains(text, token[:20]) || !strings.Contains(text, "route=/topics ") {
		t.Errorf("got the log and metrics\n%s", text)
	}
}

// untilClose reads frames until a close frame.
func untilClose(conn net.Conn, br *bufio.Reader) error {
	var r io.Reader = conn
	if br != nil {
		r = br // with frames that arrived with the handshake
	}
	for {
		h, err := ws.ReadHeader(r)
		if err != nil || h.OpCode == ws.OpClose {
			return err
		}
		if _, err := io.CopyN(io.Discard, r, h.Length); err != nil {
			return err
		}
	}
}
