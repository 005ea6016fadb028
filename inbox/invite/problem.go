package invite

import (
	"net/http"

	"inbox/internal/problem"
)

// Kinds of the problems, for counters.
const (
	required = "invitation-required"
	expired  = "invitation-expired"
)

// Refusals. A page compares their type, and shows their text.
var (
	// ErrRequired refuses a client without an invitation.
	ErrRequired = refusal(required, "This server is private",
		"Open your invitation link first. The operator of the server makes invitations.")
	// ErrDamaged refuses an invitation that is incomplete or misspelled.
	ErrDamaged = refusal(required, "The invitation cannot be read",
		"It is incomplete or misspelled. Copy the whole link or token.")
	// ErrUnknown refuses an invitation that this server has not made, or has forgotten.
	ErrUnknown = refusal(required, "The invitation is not known",
		"It is of another server, or expired long ago. Ask the operator for a new one.")
	// ErrOtherNames refuses a guest pass for another room.
	ErrOtherNames = refusal(required, "The guest pass is for another room",
		"It allows the two names of its room only.")
	// ErrGuest refuses a guest who invites.
	ErrGuest = refusal(required, "A guest cannot invite others",
		"Guest passes are for clients with an invitation.")
	// ErrExpired refuses an invitation that has expired or was revoked, and its guest passes.
	ErrExpired = refusal(expired, "The invitation has expired",
		"Ask the person who gave it to you for a new one.")
)

func refusal(kind, title, detail string) *problem.Problem {
	return problem.New(http.StatusForbidden, kind, title, detail)
}
