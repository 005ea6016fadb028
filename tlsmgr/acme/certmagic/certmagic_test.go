package certmagic

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"testing"
	"time"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/internal/tlstest"
	"inbox/tlsmgr/storage"
)

func TestProfileRequested(t *testing.T) {
	first, fallback := &acme.CAClient{}, &acme.CAClient{}
	for _, tt := range []struct {
		why, wanted, name string
		ca                *acme.CAClient
		listed            string
		want              string
	}{
		{"default", "", "one.example", first, "shortlived", ""},
		{"IP address", "", "192.0.2.1", first, "shortlived", "shortlived"},
		{"IP address, profile not offered", "", "192.0.2.1", first, "classic", ""},
		{"configured profile", "classic", "192.0.2.1", first, "shortlived", "classic"},
		{"configured profile, offered by the fallback CA", "classic", "one.example", fallback, "classic", "classic"},
		{"configured profile, not offered by the fallback CA", "classic", "one.example", fallback, "other", ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			e := &engine{Settings: &acme.Settings{CAs: []*acme.CAClient{first, fallback}, Config: acme.Config{Profile: tt.wanted}}}
			d := new(acme.Directory)
			d.Meta.Profiles = map[string]string{tt.listed: ""}
			if got := e.profile(acme.Order{Name: tt.name, CA: tt.ca, Directory: d}); got != tt.want {
				t.Errorf("got profile %q, want %q", got, tt.want)
			}
		})
	}
}

// A certmagic lock excludes other holders, waits while it is held, and ends with the
// context.
func TestStoreLocks(t *testing.T) {
	log, _ := tlstest.NewLog()
	dir := t.TempDir()
	newHolder := func() *store {
		return newStore(storage.NewDirectory(dir, log))
	}
	a, b, ctx := newHolder(), newHolder(), t.Context()
	if err := a.Lock(ctx, "name"); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := b.Lock(short, "name"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock of a held lock: got %v, want context.DeadlineExceeded", err)
	}
	if err := b.Unlock(ctx, "name"); err == nil {
		t.Error("Unlock of the lock of another: got no error")
	}
	go func() { time.Sleep(50 * time.Millisecond); a.Unlock(ctx, "name") }()
	if err := b.Lock(ctx, "name"); err != nil {
		t.Errorf("Lock after Unlock: %v", err)
	}
	if err := b.Unlock(ctx, "name"); err != nil {
		t.Error(err)
	}
}

// The store lists and describes values as certmagic expects.
func TestStoreListAndStat(t *testing.T) {
	log, _ := tlstest.NewLog()
	s, ctx := newStore(storage.NewDirectory(t.TempDir(), log)), t.Context()
	for _, key := range []string{"a/b/c", "a/b/d", "a/e"} {
		if err := s.Store(ctx, key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	for recursive, want := range map[bool][]string{true: {"a/b/c", "a/b/d", "a/e"}, false: {"a/b", "a/e"}} {
		if got, err := s.List(ctx, "a", recursive); err != nil || !slices.Equal(got, want) {
			t.Errorf("List, recursive %v: got %v, %v, want %v", recursive, got, err, want)
		}
	}
	if _, err := s.List(ctx, "none", true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("List of nothing: got %v, want fs.ErrNotExist", err)
	}
	for key, isValue := range map[string]bool{"a/b/c": true, "a/b": false} {
		if info, err := s.Stat(ctx, key); err != nil || info.IsTerminal != isValue {
			t.Errorf("Stat(%s): got %+v, %v, want a value: %v", key, info, err, isValue)
		}
	}
	if s.Exists(ctx, "a/f") || !s.Exists(ctx, "a/e") {
		t.Error("Exists is wrong")
	}
}
