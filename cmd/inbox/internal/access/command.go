package access

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/doctor"
	"inbox/cmd/inbox/internal/host"
	"inbox/cmd/inbox/internal/qrcode"
	"inbox/inbox/invite"
	"inbox/inbox/redisstore"
)

// storeTimeout bounds how long inbox invite waits for a store.
const storeTimeout = 10 * time.Second

// Output is where inbox invite prints.
type Output struct {
	io.Writer
	// Columns is the width of a QR code at most.
	Columns int
}

// Command runs inbox invite beside a running server, which notices a change within a second.
func Command(ctx context.Context, cfg *config.Config, out Output) error {
	storage, shutdown, err := openStorage(cfg)
	if err != nil {
		return err
	}
	defer shutdown()
	switch c := cfg.Invite; {
	case c.List:
		return list(ctx, storage, out)
	case c.Revoke != "":
		return revoke(ctx, storage, c.Revoke, out)
	}
	return add(ctx, cfg, storage, out)
}

// openStorage opens the invitations of a server with these options.
func openStorage(cfg *config.Config) (s invite.Storage, shutdown func(), err error) {
	if cfg.Store == nil {
		return invite.NewFile(cfg.StateDir), func() {}, nil
	}
	store := redisstore.New(storeConfig(cfg))
	for end := time.Now().Add(storeTimeout); store.Ready() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			err := store.Ready()
			store.Shutdown()
			return nil, nil, fmt.Errorf("connect to the store of the server: %w", err)
		}
	}
	return invite.NewShared(store, redisstore.Prefix, cfg.Store.Key), store.Shutdown, nil
}

// Examine returns the function with which the doctor examines the invitations, or nil if the server
// is open.
func Examine(cfg *config.Config) func(context.Context) (doctor.Invitations, error) {
	if !cfg.Private {
		return nil
	}
	return func(ctx context.Context) (found doctor.Invitations, err error) {
		if cfg.Store != nil { // the doctor writes nothing to a store that no server has used
			if used, err := redisstore.Examine(ctx, storeConfig(cfg)); err != nil || used.Unused || used.KeyMismatch {
				return found, err
			}
		}
		storage, shutdown, err := openStorage(cfg)
		if err != nil {
			return found, err
		}
		defer shutdown()
		found.Valid, found.Pass, err = invite.Examine(ctx, storage, time.Now())
		return found, err
	}
}

func storeConfig(cfg *config.Config) redisstore.Config {
	return redisstore.Config{Address: cfg.Store.Address, Key: cfg.Store.Key, Limits: cfg.Mailboxes}
}

func add(ctx context.Context, cfg *config.Config, s invite.Storage, out Output) error {
	token, made, err := invite.Add(ctx, s, cfg.Invite.Label, cfg.Invite.Lifetime, time.Now())
	if err != nil {
		return fmt.Errorf("-label %q: %w", cfg.Invite.Label, err)
	}
	link := siteOf(cfg) + "/#invite=" + token
	fmt.Fprintf(out, "Invitation for %s, valid until %s. It is shown only once:\n\n  %s\n\n", made.Label, dateOf(made.Expires), link)
	if code := qrcode.Text(link, out.Columns); code != "" {
		fmt.Fprintf(out, "%s\n", code)
	}
	fmt.Fprintf(out, "For programs, the invitation without the link:\n\n  %s\n", token)
	if !cfg.Private {
		fmt.Fprint(out, "\nThe server is open, so nobody needs an invitation: -access is not invited.\n")
	}
	return nil
}

// siteOf returns the address of the pages, as far as the options tell it.
func siteOf(cfg *config.Config) string {
	scheme, normal, name := "http", "80", "localhost"
	if cfg.HTTPS {
		scheme, normal = "https", "443"
	}
	if len(cfg.Domains) > 0 {
		name = cfg.Domains[0]
	}
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	if port := host.Port(cfg.Bind.Value); port != "" && port != normal {
		name += ":" + port
	}
	return scheme + "://" + name
}

func dateOf(t time.Time) string { return t.UTC().Format("2 January 2006 15:04 UTC") }

// list prints one invitation per line.
func list(ctx context.Context, s invite.Storage, out Output) error {
	all, err := invite.List(ctx, s)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(out, "There are no invitations.")
		return nil
	}
	now := time.Now()
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "LABEL\tMADE\tSTATE")
	for _, i := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\n", i.Label, dateOf(i.Created), stateOf(i, now))
	}
	return table.Flush()
}

func stateOf(i invite.Invitation, now time.Time) string {
	switch {
	case !i.Revoked.IsZero():
		return "revoked " + dateOf(i.Revoked)
	case !i.IsValid(now):
		return "expired " + dateOf(i.Expires)
	}
	return "valid until " + dateOf(i.Expires)
}

func revoke(ctx context.Context, s invite.Storage, label string, out Output) error {
	revoked, err := invite.Revoke(ctx, s, label, time.Now())
	if err != nil {
		return fmt.Errorf("-revoke %q: %w", label, err)
	}
	for _, i := range revoked {
		fmt.Fprintf(out, "Revoked the invitation for %s of %s.\n", i.Label, dateOf(i.Created))
	}
	if len(revoked) == 0 {
		fmt.Fprintln(out, "There was no valid invitation.")
	}
	return nil
}
