package doctor

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestDoctorChecksAccess(t *testing.T) {
	with := func(found Invitations, err error) func(context.Context) (Invitations, error) {
		return func(context.Context) (Invitations, error) { return found, err }
	}
	for _, row := range []struct {
		name        string
		turn        *TURN
		invitations func(context.Context) (Invitations, error)
		level       Level
		text        string
	}{
		{"open", nil, nil, OK, "every client can claim mailboxes."},
		{"open with a relay", &TURN{Relay: true}, nil, OK, "every client can claim mailboxes and use the relay."},
		{"open, relay elsewhere", &TURN{}, nil, OK, "every client can claim mailboxes."},
		{"private", &TURN{Relay: true}, with(Invitations{Valid: 2}, nil), OK, "private. Valid invitations: 2."},
		{"nobody is invited", nil, with(Invitations{}, nil), Warning, "no valid invitation"},
		{"unreadable", nil, with(Invitations{}, errors.New("permission denied")), Failure, "cannot be read: permission denied"},
	} {
		e := &examination{Config: Config{TURN: row.turn, Invitations: row.invitations}}
		found := e.checkAccess(t.Context())
		if len(found) != 1 || found[0].Level != row.level || !strings.Contains(found[0].Text, row.text) {
			t.Errorf("%s: got %+v, want %s with %q", row.name, found, row.level, row.text)
		}
	}
}
