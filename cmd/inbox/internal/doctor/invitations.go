package doctor

import (
	"context"
	"fmt"
	"net/http"

	"inbox/inbox"
)

// Invitations are those of a private server.
type Invitations struct {
	Valid int
	// Pass returns a guest pass for a name, to test a running server; nil without a valid
	// invitation.
	Pass func(name string) string
}

// checkAccess reports who can use the server and its relay.
func (e *examination) checkAccess(ctx context.Context) []Finding {
	const name = "-access"
	if e.Invitations == nil {
		text := "The server is open: every client can claim mailboxes."
		if e.TURN != nil && e.TURN.Relay {
			text = "The server is open: every client can claim mailboxes and use the relay."
		}
		return []Finding{good(name, text)}
	}
	found, err := e.Invitations(ctx)
	switch {
	case err != nil:
		return []Finding{failure(name, fmt.Sprintf("The server is private, and its invitations cannot be read: %v.", err),
			"Run the doctor as root, or as the user of the server.")}
	case found.Valid == 0:
		return []Finding{warning(name, "The server is private and has no valid invitation, so that no client can use it.",
			"Make one with: inbox invite -label NAME.")}
	}
	e.pass = found.Pass
	return []Finding{good(name, fmt.Sprintf("The server is private. Valid invitations: %d.", found.Valid))}
}

// inviting adds a guest pass to each request.
type inviting struct {
	*http.Transport
	pass string
}

// RoundTrip implements [http.RoundTripper].
func (i inviting) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(inbox.InviteField, i.pass)
	return i.Transport.RoundTrip(r)
}

// invite lets the client of a running server use its mailbox, if the server is private.
func (s *localServer) invite() {
	if transport, ok := s.client.Transport.(*http.Transport); ok && s.e.pass != nil {
		s.client.Transport = inviting{transport, s.e.pass(s.user.Username())}
	}
}
