package config

import (
	"errors"
	"flag"
	"slices"
)

// resolveAccess resolves who can use the server. It needs the state directory and the store.
func (r *resolver) resolveAccess() error {
	r.c.Private = r.o.access == "invited"
	r.c.Invite = Invitations{r.o.label, r.o.lifetime, r.o.list, r.o.revoke}
	stateless := r.c.StateDir == "" && r.c.Store == nil
	switch {
	case r.o.Command == Invite && stateless:
		return errors.New("inbox invite requires -state or -store, which keep the invitations")
	case !r.c.Private:
		return nil
	case stateless:
		return r.o.optionError("access", errors.New("requires -state or -store, which keep the invitations"))
	}
	return nil
}

// checkInvite requires one thing to do of inbox invite.
func (o *Options) checkInvite() error {
	if o.Command != Invite {
		return nil
	}
	count := 0
	for _, given := range []bool{o.label != "", o.list, o.revoke != ""} {
		if given {
			count++
		}
	}
	switch {
	case count != 1:
		return errors.New("inbox invite requires one of -label LABEL, -list and -revoke LABEL; inbox help invite explains them")
	case o.from["for"] != "" && o.label == "":
		return o.optionError("for", errors.New("requires -label"))
	}
	return nil
}

// NamesServer reports whether the command line has options of a server, not only of
// [Invite]: then it is not the server of this machine.
func (o *Options) NamesServer() bool {
	named := false
	o.flags.VisitAll(func(f *flag.Flag) {
		named = named || o.from[f.Name] == fromCommandLine && !slices.Contains(inviteOptions, f.Name)
	})
	return named
}

// inviteOptions are the options of [Invite].
var inviteOptions = []string{"label", "for", "list", "revoke"}
