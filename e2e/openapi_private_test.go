package e2e

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/invite"
	"inbox/inbox/memstore"
)

// startPrivate starts a private server, and returns a valid and a revoked invitation.
func startPrivate(t *testing.T, anyOrigin bool) (server, token, revoked string) {
	t.Helper()
	storage, now := invite.NewFile(t.TempDir()), time.Now()
	revoked, _, err := invite.Add(t.Context(), storage, "anna", time.Hour, now)
	if err == nil {
		_, err = invite.Revoke(t.Context(), storage, "anna", now)
	}
	if err == nil {
		token, _, err = invite.Add(t.Context(), storage, "anna", time.Hour, now)
	}
	if err != nil {
		t.Fatal(err)
	}
	store := memstore.New(inbox.Limits{Timeout: time.Minute, Capacity: 100})
	access, err := invite.New(invite.Config{Storage: storage, Store: store, Remember: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", inbox.NewHandler(inbox.Config{
		Store: store, Secret: []byte("sixteen bytes or"), Path: "/inbox", ICEPath: "/ice", PollTimeout: 25 * time.Second, MaxBodyBytes: 1 << 20,
		Access: access, AnyOrigin: anyOrigin,
	}))
	mux.Handle("/guest-pass", invite.NewHandler(invite.HandlerConfig{
		Access: access, Payer: func(*http.Request) inbox.Payer { return inbox.Payer{} }, AnyOrigin: anyOrigin,
	}))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL, token, revoked
}

// checkPrivateServer checks the responses of a private server.
func checkPrivateServer(t *testing.T, doc *document) {
	const body = "\nContent-Type: application/json\n\n{\"names\":[\"anna\",\"ben\"],\"remembered\":true}"
	for _, anyOrigin := range []bool{false, true} {
		server, token, revoked := startPrivate(t, anyOrigin)
		with := func(token string) string { return "\nInbox-Invite: " + token }
		for _, row := range []struct{ text, want string }{
			{"GET /inbox?wait=0 anna:rabbit", "GET /inbox 403"},
			{"GET /inbox?wait=0 anna:rabbit" + with(revoked), "GET /inbox 403"},
			{"GET /inbox?wait=0 anna:rabbit" + with(token), "GET /inbox 204"},
			{"POST /guest-pass" + with(token) + body, "POST /guest-pass 200"},
			{"POST /guest-pass" + with(token) + "\nContent-Type: application/json\n\n{}", "POST /guest-pass 400"},
			{"POST /guest-pass" + with(revoked) + body, "POST /guest-pass 403"},
			{"POST /guest-pass" + body, "POST /guest-pass 403"},
			{"POST /guest-pass" + with(token) + "\n\n" + strings.Repeat(" ", 9000), "POST /guest-pass 413"},
			{"HEAD /guest-pass", "HEAD /guest-pass 405"},
		} {
			if got := doc.roundTrip(t, server, row.text); got != row.want {
				t.Errorf("%q: got %s, want %s", row.text, got, row.want)
			}
		}
		for _, method := range []string{"POST", "OPTIONS", "HEAD"} {
			want := map[bool]string{false: method + " /guest-pass 403"}[anyOrigin]
			if got := doc.roundTrip(t, server, method+" /guest-pass"+crossSite); want != "" && got != want {
				t.Errorf("a page of another site: got %s, want %s", got, want)
			}
		}
		if err := doc.checkOtherMethods(server, "/guest-pass"); err != nil {
			t.Errorf("PUT /guest-pass: %v", err)
		}
	}
}
