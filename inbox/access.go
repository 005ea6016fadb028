package inbox

import (
	"context"
	"net/http"
	"strings"
)

// InviteField is the field of requests, in canonical form, that has the invitation or the guest
// pass of a client. A WebSocket has it in the parameter invite of its hello, too.
const InviteField = "Inbox-Invite"

// Access decides what the clients of a private server can do. A token is what a client has sent in
// [InviteField]; it can be anything. Errors refuse the request: they are problem documents, or
// [ErrStoreUnavailable]. All methods can be called concurrently.
type Access interface {
	// Admit returns an error to refuse a client that claims a name, or uses its mailbox.
	Admit(token, name string, client Payer) error
	// AdmitSend returns an error to refuse a message to a name.
	AdmitSend(token, to string) error
	// AdmitRelay returns an error to refuse credentials of a relay to the owner of a name.
	AdmitRelay(token, name string) error
	// Opened reports a claim that a client has opened, or tried to. The claim must end with the
	// token. The owner is that of [Config.OnDelete]. An error refuses the client: the token can have
	// ceased to be valid since Admit.
	Opened(token string, c Claim, owner string) error
}

// tokenOf returns the invitation or guest pass of a request, or "".
func tokenOf(r *http.Request) string { return canonicalHeader(r.Header, InviteField) }

// maxTokenBytes bounds what is kept of a token. Valid ones are shorter.
const maxTokenBytes = 256

// keepToken adds the invitation or guest pass of a WebSocket to its detached request.
func keepToken(r *http.Request, token string) {
	if token == "" {
		return
	}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	r.Header[InviteField] = []string{strings.Clone(token[:min(len(token), maxTokenBytes)])}
}

// admit refuses a client that cannot use a name. A wrong password is the reason that it learns
// first. A refusal does not prolong the claim.
func (h *Handler) admit(r *http.Request, name string, key Key) error {
	refusal := h.access.Admit(tokenOf(r), name, h.payer(r))
	if refusal == nil {
		return nil
	}
	check := func() (Claim, error) { return h.store.Check(r.Context(), name, key) }
	if _, err := h.openWith(r, name, key, check); err != nil {
		return err
	}
	return refusal
}

// CheckAccess ends the pending sends whose invitations or guest passes are no longer valid. It does
// not wait.
func (h *Handler) CheckAccess() { h.pending.Check() }

// whileAdmitted ends a pending send with the reason, once its client can no longer send to a name.
func (h *Handler) whileAdmitted(r *http.Request, to string, end context.CancelCauseFunc) (done func()) {
	if h.access == nil {
		return func() {}
	}
	return h.pending.Add(end, func() error { return h.access.AdmitSend(tokenOf(r), to) })
}

// matched notes that a client has opened a claim with the right password. An error refuses it.
func (h *Handler) matched(r *http.Request, c Claim, key Key) error {
	h.guard.Record(r, PasswordMatch, c.Name)
	if h.access == nil {
		return nil
	}
	return h.access.Opened(tokenOf(r), c, ownerOf(c.Name, key))
}
