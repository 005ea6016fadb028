package turn

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"inbox/turn/internal/quota"
)

var testSecret = bytes.Repeat([]byte{7}, 32)

// newTestIssuer returns an issuer whose clock the test sets.
func newTestIssuer(t testing.TB, secret []byte) (*Issuer, *time.Time) {
	t.Helper()
	i, err := NewIssuer(secret)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 10, 12, 0, 0, 123456789, time.UTC)
	i.now = func() time.Time { return now }
	return i, &now
}

func TestCredentialsAtAnotherNode(t *testing.T) {
	issuer, _ := newTestIssuer(t, testSecret)
	other, now := newTestIssuer(t, testSecret)
	got := issuer.Issue("alice", Payer{"client", "network"})
	if want := now.Add(CredentialLifetime); got.Expires.After(want) || want.Sub(got.Expires) >= time.Microsecond {
		t.Errorf("got an expiry of %v, want %v", got.Expires, want)
	}
	id, err := other.checkNew(got.Username, new(revocations))
	if err != nil || other.password(got.Username) != got.Password {
		t.Fatalf("got %v", err)
	}
	if id.owner != other.ownerHash("alice") || id.owner == other.ownerHash("bob") || !id.expires.Equal(got.Expires) {
		t.Errorf("got %+v", id)
	}
	want := quota.Payer{Client: other.payerHash("client", "client"), Network: other.payerHash("network", "network")}
	if id.payer != want || want.Client == want.Network {
		t.Errorf("got %+v, want %+v", id.payer, want)
	}
}

func TestCredentialsRevealNothing(t *testing.T) {
	issuer, _ := newTestIssuer(t, testSecret)
	got := issuer.Issue("alice", Payer{Client: "192.0.2.1"})
	raw, err := base64.RawURLEncoding.DecodeString(got.Username)
	if err != nil || strings.Contains(string(raw), "alice") || strings.Contains(string(raw), "192.0.2.1") {
		t.Errorf("got %q, %v", raw, err)
	}
	if len(got.Username) > 64 || len(got.Password) != 43 {
		t.Errorf("got %d and %d characters", len(got.Username), len(got.Password))
	}
	foreign, _ := newTestIssuer(t, bytes.Repeat([]byte{8}, 32))
	if again := foreign.Issue("alice", Payer{Client: "192.0.2.1"}); again.Username == got.Username || foreign.password(got.Username) == got.Password {
		t.Error("another secret makes the same credentials")
	}
	if issuer.Issue("bob", Payer{Client: "192.0.2.1"}).Password == got.Password {
		t.Error("two user names have the same password")
	}
}

func TestPayerWithoutAddress(t *testing.T) {
	issuer, _ := newTestIssuer(t, testSecret)
	id, err := issuer.checkNew(issuer.Issue("alice", Payer{}).Username, new(revocations))
	if err != nil || id.payer != (quota.Payer{}) {
		t.Errorf("got %+v, %v, want no payer", id.payer, err)
	}
}

func TestExpiry(t *testing.T) {
	issuer, now := newTestIssuer(t, testSecret)
	c := issuer.Issue("alice", Payer{Client: "client"})
	rows := []struct {
		name               string
		after              time.Duration
		forNew, forRunning error
	}{
		{"at once", 0, nil, nil},
		{"before the end", CredentialLifetime - time.Microsecond, nil, nil},
		{"at the end", CredentialLifetime, errExpiredCredentials, nil},
		{"a day later", MaxAllocationLifetime, errExpiredCredentials, nil},
		{"after the last allocation", MaxAllocationLifetime + CredentialLifetime, errExpiredCredentials, errExpiredCredentials},
	}
	start := *now
	for _, row := range rows {
		*now = start.Add(row.after)
		if _, err := issuer.checkNew(c.Username, new(revocations)); !errors.Is(err, row.forNew) {
			t.Errorf("%s: got %v for a new allocation, want %v", row.name, err, row.forNew)
		}
		if _, err := issuer.checkExisting(c.Username); !errors.Is(err, row.forRunning) {
			t.Errorf("%s: got %v for a running one, want %v", row.name, err, row.forRunning)
		}
	}
}

func TestMalformedUsername(t *testing.T) {
	issuer, _ := newTestIssuer(t, testSecret)
	name := issuer.Issue("alice", Payer{Client: "client"}).Username
	for _, username := range []string{"", "alice", name[:len(name)-1], name + "A", name[1:] + "=", " " + name[1:], name[:10] + "\n" + name[11:], strings.Repeat("+", len(name))} {
		if _, err := issuer.checkNew(username, new(revocations)); !errors.Is(err, errMalformedUsername) {
			t.Errorf("%q: got %v", username, err)
		}
		if _, err := issuer.checkExisting(username); !errors.Is(err, errMalformedUsername) {
			t.Errorf("%q of a running allocation: got %v", username, err)
		}
	}
}

func TestShortSecret(t *testing.T) {
	if _, err := NewIssuer(make([]byte, 15)); err == nil {
		t.Error("got no error for a secret of 15 bytes")
	}
}

func TestRevocation(t *testing.T) {
	issuer, now := newTestIssuer(t, testSecret)
	revoked := new(revocations)
	before, bob := issuer.Issue("alice", Payer{}), issuer.Issue("bob", Payer{})
	revoked.add(issuer.ownerHash("alice"), *now, *now)
	if _, err := issuer.checkNew(before.Username, revoked); !errors.Is(err, errRevokedCredentials) {
		t.Errorf("got %v, want %v", err, errRevokedCredentials)
	}
	if _, err := issuer.checkNew(bob.Username, revoked); err != nil {
		t.Errorf("another owner: %v", err)
	}
	*now = now.Add(2 * time.Microsecond)
	after := issuer.Issue("alice", Payer{})
	if _, err := issuer.checkNew(after.Username, revoked); err != nil {
		t.Errorf("credentials issued afterwards: %v", err)
	}
	revoked.add(issuer.ownerHash("alice"), *now, *now)
	if _, err := issuer.checkNew(after.Username, revoked); !errors.Is(err, errRevokedCredentials) {
		t.Errorf("revoked again: got %v", err)
	}
	*now = now.Add(CredentialLifetime)
	revoked.add(issuer.ownerHash("carol"), *now, *now)
	if len(revoked.at) != 1 || len(revoked.queue) != 1 {
		t.Errorf("kept %d of %d revocations of expired credentials", len(revoked.at), len(revoked.queue))
	}
}

// TestRevocationAndClock sets the clock back by an hour after a revocation.
func TestRevocationAndClock(t *testing.T) {
	issuer, now := newTestIssuer(t, testSecret)
	revoked := new(revocations)
	before := issuer.Issue("alice", Payer{})
	*now = now.Add(time.Minute)
	revoked.add(issuer.ownerHash("alice"), *now, *now)
	*now = now.Add(-time.Hour)
	if _, err := issuer.checkNew(issuer.Issue("alice", Payer{}).Username, revoked); err != nil {
		t.Errorf("new credentials after the clock was set back: %v", err)
	}
	*now = now.Add(30 * time.Minute)
	revoked.add(issuer.ownerHash("bob"), *now, *now)
	if _, err := issuer.checkNew(issuer.Issue("alice", Payer{}).Username, revoked); err != nil {
		t.Errorf("half an hour later: %v", err)
	}
	if _, err := issuer.checkNew(before.Username, revoked); !errors.Is(err, errRevokedCredentials) {
		t.Errorf("revoked credentials after the clock was set back: %v", err)
	}
}

// TestRevocationIsKept has entries with and without a monotonic time.
func TestRevocationIsKept(t *testing.T) {
	at := time.Now()
	later := at.Add(CredentialLifetime)
	for name, row := range map[string]struct {
		at, now time.Time
		want    bool
	}{
		"later":          {at, later, true},
		"sooner":         {at, later.Add(-time.Second), false},
		"another node":   {at.Round(0), later, true},
		"clock set back": {at, later.Add(-time.Hour), false},
	} {
		if got := (revocation{at: row.at}).expired(row.now); got != row.want {
			t.Errorf("%s: got %v, want %v", name, got, row.want)
		}
	}
}

// TestRevocationOfAnotherNode adds revocations that are older than others.
func TestRevocationOfAnotherNode(t *testing.T) {
	issuer, now := newTestIssuer(t, testSecret)
	revoked := new(revocations)
	owner, ok := parseOwnerID(issuer.OwnerID("alice"))
	if !ok || owner != issuer.ownerHash("alice") {
		t.Fatalf("got %v, %v, want the hash of the owner", owner, ok)
	}
	before := issuer.Issue("alice", Payer{})
	*now = now.Add(time.Minute)
	between := issuer.Issue("alice", Payer{})
	revoked.add(owner, now.Add(-30*time.Second), *now)
	revoked.add(owner, now.Add(-40*time.Second), *now)
	if _, err := issuer.checkNew(before.Username, revoked); !errors.Is(err, errRevokedCredentials) {
		t.Errorf("issued before: got %v", err)
	}
	if _, err := issuer.checkNew(between.Username, revoked); err != nil {
		t.Errorf("issued afterwards: got %v", err)
	}
	for _, id := range []string{"", "alice", issuer.OwnerID("alice")[1:], issuer.OwnerID("alice")[1:] + "=", issuer.OwnerID("alice") + "A"} {
		if _, ok := parseOwnerID(id); ok {
			t.Errorf("%q is an ID", id)
		}
	}
}

func TestRevocationsAreBounded(t *testing.T) {
	issuer, now := newTestIssuer(t, testSecret)
	revoked := new(revocations)
	last := identity{owner: ownerHash{1}, expires: now.Add(time.Minute)}
	for i := range maxRevocations + 100 {
		revoked.add(ownerHash{2, byte(i), byte(i >> 8)}, *now, *now)
	}
	revoked.add(last.owner, *now, *now)
	if len(revoked.at) != maxRevocations || len(revoked.queue) != maxRevocations {
		t.Errorf("got %d and %d entries, want %d", len(revoked.at), len(revoked.queue), maxRevocations)
	}
	if _, err := issuer.checkNew(last.username(), revoked); !errors.Is(err, errRevokedCredentials) {
		t.Errorf("the last revocation: got %v", err)
	}
}

func FuzzUsername(f *testing.F) {
	issuer, _ := newTestIssuer(f, testSecret)
	f.Add(issuer.Issue("alice", Payer{"client", "network"}).Username)
	f.Add("")
	f.Add(strings.Repeat("_", 58))
	f.Fuzz(func(t *testing.T, username string) {
		id, err := parseUsername(username)
		if err != nil {
			if id != (identity{}) {
				t.Errorf("got %+v with %v", id, err)
			}
			return
		}
		if got := id.username(); got != username {
			t.Errorf("got %q, want %q", got, username)
		}
		issuer.checkNew(username, new(revocations))
		issuer.checkExisting(username)
	})
}
