package turn

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

// TestRevocationsSurviveARestart revokes credentials that have the same microsecond as the
// revocation.
func TestRevocationsSurviveARestart(t *testing.T) {
	before := newTestServer(t, nil)
	alice, bob := before.Credentials("alice", Payer{}), before.Credentials("bob", Payer{})
	before.Revoke("alice")
	saved := before.Revocations()
	after := newTestServer(t, func(c *Config) { c.Revocations = saved })
	c := after.newRawClient(t, overUDP, "alice")
	c.allocate() // issued after the revocation
	for _, row := range []struct {
		creds Credentials
		want  stun.ErrorCode
	}{{alice, stun.CodeUnauthorized}, {bob, 0}} {
		other := after.newRawClient(t, overUDP, "")
		other.creds = row.creds
		other.expect(row.want, stun.MethodAllocate, udpTransport)
	}
	if got := after.Revocations(); !bytes.Equal(got, saved) {
		t.Errorf("got %x, want %x", got, saved)
	}
	after.clock.advance(CredentialLifetime)
	if got := after.Revocations(); len(got) >= len(saved) {
		t.Errorf("got %d bytes when the credentials have expired", len(got))
	}
}

func TestSavedRevocationsAreBounded(t *testing.T) {
	r, now := new(revocations), time.Now()
	for i := range maxRevocations + 100 {
		r.deny(ownerHash{2, byte(i), byte(i >> 8)}, now, now)
	}
	saved := r.encode(now)
	next := new(revocations)
	if err := next.decode(saved, now); err != nil || len(saved) != MaxRevocationsBytes || len(next.at) != maxRevocations {
		t.Errorf("got %v, %d bytes, %d owners", err, len(saved), len(next.at))
	}
}

// TestRevocationsAboveTheBound checks that the owners for whom the table has no room get no allocation
// with credentials from before, nor after a restart, and others do with new ones.
func TestRevocationsAboveTheBound(t *testing.T) {
	s := newTestServer(t, nil)
	first, bystander := s.Credentials("first", Payer{}), s.Credentials("bystander", Payer{})
	s.RevokeCredentials("first")
	s.clock.advance(time.Second)
	later := s.Credentials("later", Payer{})
	for i := range maxRevocations {
		s.RevokeCredentials(fmt.Sprint(i))
	}
	next := newTestServer(t, func(c *Config) { c.Revocations = s.Revocations() })
	for _, server := range []*testServer{s, next} {
		for _, row := range []struct {
			creds Credentials
			want  stun.ErrorCode
		}{{first, stun.CodeUnauthorized}, {bystander, stun.CodeUnauthorized}, {later, 0}} {
			c := server.newRawClient(t, overUDP, "")
			c.creds = row.creds
			c.expect(row.want, stun.MethodAllocate, udpTransport)
		}
	}
	s.clock.advance(CredentialLifetime)
	if got := s.Revocations(); len(got) != len(revokedMagic)+1+4 {
		t.Errorf("got %d bytes when the credentials have expired", len(got))
	}
}

// TestDeletedMailboxesRevokeNoOthers checks that strangers who delete mailboxes take no relay from
// others.
func TestDeletedMailboxesRevokeNoOthers(t *testing.T) {
	s := newTestServer(t, nil)
	bystander := s.Credentials("bystander", Payer{})
	for i := range maxRevocations + 100 {
		s.Revoke(fmt.Sprint(i))
	}
	next := newTestServer(t, func(c *Config) { c.Revocations = s.Revocations() })
	next.Revoke("one more")
	for _, server := range []*testServer{s, next} {
		c := server.newRawClient(t, overUDP, "")
		c.creds = bystander
		c.expect(0, stun.MethodAllocate, udpTransport)
	}
	if got := len(s.Revocations()); got > MaxRevocationsBytes {
		t.Errorf("got %d bytes", got)
	}
}

func TestRevokeAllCredentials(t *testing.T) {
	s := newTestServer(t, nil)
	old := s.newRawClient(t, overUDP, "anna")
	running := s.newRawClient(t, overUDP, "ben")
	running.allocate()
	s.RevokeAllCredentials(s.clock.Now())
	old.expect(stun.CodeUnauthorized, stun.MethodAllocate, udpTransport)
	running.expect(0, stun.MethodRefresh)
	s.clock.advance(time.Second)
	s.newRawClient(t, overUDP, "anna").allocate()
}

func TestInvalidRevocations(t *testing.T) {
	r, now := new(revocations), time.Now()
	r.add(ownerHash{1}, now, now)
	valid := r.encode(now)
	for name, b := range map[string][]byte{
		"short":           valid[:10],
		"cut off":         valid[:len(valid)-1],
		"another entry":   append(bytes.Clone(valid[:len(valid)-5]), valid[len(valid)-4:]...),
		"another version": append([]byte(revokedMagic+"\x03"), valid[len(revokedMagic)+1:]...),
		"too long":        make([]byte, MaxRevocationsBytes+1),
	} {
		next := new(revocations)
		if err := next.decode(b, now); !errors.Is(err, errSavedRevocations) || len(next.at) != 0 {
			t.Errorf("%s: got %v, %d owners", name, err, len(next.at))
		}
	}
	s, err := New(Config{Secret: testSecret, Revocations: []byte("x")})
	if err != nil {
		t.Fatalf("an invalid file stops the server: %v", err)
	}
	s.Close()
}

func FuzzRevocations(f *testing.F) {
	r, now := new(revocations), time.Now()
	r.add(ownerHash{1}, now, now)
	f.Add(r.encode(now))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		next := new(revocations)
		if err := next.decode(b, now); err != nil && len(next.at) != 0 {
			t.Errorf("got %d owners with %v", len(next.at), err)
		}
		if len(next.queue) > maxRevocations {
			t.Errorf("got %d owners", len(next.queue))
		}
	})
}
