package invite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
	"inbox/inbox/quota"
)

// clock is a clock that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// rig is the access to a server with a state directory. follow does what Run does at each tick.
type rig struct {
	*Access
	t       *testing.T
	clock   *clock
	dir     string
	storage *File
	store   *memstore.Store
	mu      sync.Mutex
	ended   []string // owners of ended claims
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigIn(t, t.TempDir(), &clock{now: time.Unix(1790000000, 0)})
}

// newRigIn returns the access of another process with the same directory.
func newRigIn(t *testing.T, dir string, c *clock) *rig {
	t.Helper()
	r := &rig{t: t, clock: c, dir: dir, storage: NewFile(dir), store: memstore.New(inbox.Limits{Timeout: time.Hour})}
	var err error
	r.Access, err = New(Config{
		Storage: NewFile(dir), Store: r.store, Remember: time.Hour, OnEnd: r.noteEnd, CodePrefix: "code-", JoinerPrefix: "join-", Now: c.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) noteEnd(owner string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = append(r.ended, owner)
}

func (r *rig) follow() {
	r.t.Helper()
	if _, err := r.reload(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	for _, check := range r.onCheck {
		check()
	}
	r.endClaims(context.Background())
}

// invite makes an invitation that the server knows.
func (r *rig) invite(label string, lifetime time.Duration) string {
	r.t.Helper()
	token, _, err := Add(r.t.Context(), r.storage, label, lifetime, r.clock.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	r.follow()
	return token
}

func (r *rig) revoke(label string) {
	r.t.Helper()
	if _, err := Revoke(r.t.Context(), r.storage, label, r.clock.Now()); err != nil {
		r.t.Fatal(err)
	}
	r.follow()
}

func (r *rig) pass(token string, remembered bool) string {
	r.t.Helper()
	pass, _, err := r.GuestPass(token, [2]string{"anna", "ben"}, remembered, inbox.Payer{})
	if err != nil {
		r.t.Fatal(err)
	}
	return pass
}

func (r *rig) want(what string, got, want error) {
	r.t.Helper()
	if !errors.Is(got, want) {
		r.t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// claim claims a name with a token, as a handler does.
func (r *rig) claim(token, name string) inbox.Claim {
	r.t.Helper()
	return r.claimAs("owner of "+name, token, name, inbox.Key{})
}

func (r *rig) claimAs(owner, token, name string, key inbox.Key) inbox.Claim {
	r.t.Helper()
	r.want("claim "+name, r.Admit(token, name, inbox.Payer{Client: "c"}), nil)
	c, err := r.store.Open(r.t.Context(), name, key, &inbox.Payer{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.want("open "+name, r.Opened(token, c, owner), nil)
	return c
}

func (r *rig) wantClaim(c inbox.Claim, open bool) {
	r.t.Helper()
	if err := r.store.Discard(r.t.Context(), c, 0); (err == nil) != open {
		r.t.Errorf("the claim of %s: got %v, want open: %t", c.Name, err, open)
	}
}

func TestNobodyIsAdmittedWithoutInvitation(t *testing.T) {
	r := newRig(t)
	unknown, _ := newToken()
	for token, want := range map[string]error{"": ErrRequired, unknown: ErrUnknown, unknown[:20]: ErrDamaged, "guest_x": ErrDamaged, "x": ErrDamaged} {
		r.want("a mailbox with "+token, r.Admit(token, "anna", inbox.Payer{}), want)
		r.want("a message with "+token, r.AdmitSend(token, "ben"), want)
		r.want("a relay with "+token, r.AdmitRelay(token, "anna"), want)
		r.want("a topic with "+token, r.AdmitMember(token), want)
		_, _, err := r.GuestPass(token, [2]string{"anna", "ben"}, false, inbox.Payer{})
		r.want("a guest pass with "+token, err, want)
	}
}

func TestInvitationAndGuestPass(t *testing.T) {
	r := newRig(t)
	token := r.invite("anna", time.Hour*24*90)
	for _, name := range []string{"anna", "carol"} {
		r.want("invited", r.Admit(token, name, inbox.Payer{}), nil)
		r.want("invited", r.AdmitSend(token, name), nil)
		r.want("invited", r.AdmitRelay(token, name), nil)
	}
	guest := r.pass(token, false)
	for name, want := range map[string]error{"anna": nil, "ben": nil, "carol": ErrOtherNames, "": ErrOtherNames, "anna ": ErrOtherNames} {
		r.want("a guest as "+name, r.Admit(guest, name, inbox.Payer{}), want)
		r.want("a guest to "+name, r.AdmitSend(guest, name), want)
		r.want("a relay for a guest as "+name, r.AdmitRelay(guest, name), want)
	}
	r.want("a guest in a topic", r.AdmitMember(guest), nil)
	_, _, err := r.GuestPass(guest, [2]string{"anna", "ben"}, false, inbox.Payer{})
	r.want("a guest who invites", err, ErrGuest)
}

// TestGuestCountsAgainstInviter checks that a guest pass has the payer of its inviter, and that a
// forged one has none.
func TestGuestCountsAgainstInviter(t *testing.T) {
	r := newRig(t)
	token := r.invite("anna", time.Hour)
	inviter := inbox.Payer{Client: strings.Repeat("a", payerBytes), Network: strings.Repeat("b", payerBytes)}
	pass, _, err := r.GuestPass(token, [2]string{"anna", "ben"}, false, inviter)
	if err != nil {
		t.Fatal(err)
	}
	forged := []byte(pass)
	forged[60] ^= 1
	for text, want := range map[string]inbox.Payer{pass: inviter, string(forged): {}, token: {}, "": {}} {
		if got := r.Inviter(text); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

// TestExpiry checks that invitations and guest passes end a minute after their time, with the
// claims that were made with them.
func TestExpiry(t *testing.T) {
	r := newRig(t)
	token := r.invite("anna", 40*24*time.Hour)
	short, remembered := r.pass(token, false), r.pass(token, true)
	claims := map[string]inbox.Claim{short: r.claim(short, "ben"), token: r.claim(token, "anna")}
	for _, step := range []struct {
		advance time.Duration
		valid   []string
		ended   []string
	}{
		{24*time.Hour + clockSkew - time.Second, []string{token, short, remembered}, nil},
		{time.Second, []string{token, remembered}, []string{short}},
		{29*24*time.Hour - time.Second, []string{token, remembered}, []string{short}},
		{time.Second, []string{token}, []string{short, remembered}},
		{10*24*time.Hour - time.Second, []string{token}, []string{short, remembered}},
		{time.Second, nil, []string{short, remembered, token}},
	} {
		r.clock.advance(step.advance)
		r.follow()
		for _, text := range step.valid {
			r.want("after "+r.clock.Now().String(), r.AdmitRelay(text, "ben"), nil)
		}
		for _, text := range step.ended {
			r.want("after "+r.clock.Now().String(), r.AdmitRelay(text, "ben"), ErrExpired)
		}
	}
	for _, c := range claims {
		r.wantClaim(c, false)
	}
}

// TestPassEndsWithInvitation checks that a guest pass does not outlive its invitation.
func TestPassEndsWithInvitation(t *testing.T) {
	r := newRig(t)
	token := r.invite("anna", time.Hour)
	pass, expires, err := r.GuestPass(token, [2]string{"anna", "ben"}, true, inbox.Payer{})
	if err != nil || !expires.Equal(r.clock.Now().Add(time.Hour)) {
		t.Errorf("got a pass until %v, %v, want an hour", expires, err)
	}
	r.clock.advance(time.Hour + clockSkew)
	r.want("after an hour", r.AdmitRelay(pass, "ben"), ErrExpired)
}

// TestRevocation checks that revoking ends the guest passes and claims of one invitation, and that
// its label can be invited again without reviving them.
func TestRevocation(t *testing.T) {
	r := newRig(t)
	token, other := r.invite("anna", time.Hour), r.invite("Zoë", time.Hour)
	pass := r.pass(token, true)
	host, guest, stranger := r.claim(token, "anna"), r.claim(pass, "ben"), r.claim(other, "zoe")
	r.revoke("anna")
	r.wantClaim(host, false)
	r.wantClaim(guest, false)
	r.wantClaim(stranger, true)
	if slices.Sort(r.ended); !slices.Equal(r.ended, []string{"owner of anna", "owner of ben"}) {
		t.Errorf("got the ended owners %q, want those of anna and ben", r.ended)
	}
	again := r.invite("anna", time.Hour)
	for _, text := range []string{token, pass} {
		r.want("revoked", r.Admit(text, "ben", inbox.Payer{}), ErrExpired)
	}
	r.want("invited again", r.Admit(again, "anna", inbox.Payer{}), nil)
	_, err := Revoke(t.Context(), r.storage, "carol", r.clock.Now())
	r.want("revoke carol", err, ErrNoLabel)
	r.revoke(AllLabels)
	r.wantClaim(stranger, false)
	r.want("all are revoked", r.Admit(other, "zoe", inbox.Payer{}), ErrExpired)
	list, err := List(t.Context(), NewFile(r.dir))
	if err != nil || len(list) != 3 || list[0].Label != "anna" || list[1].Label != "Zoë" {
		t.Errorf("got %+v, %v, want three, the newest first", list, err)
	}
}

// TestClaimOfLaterToken checks that the token with which a claim was opened last counts.
func TestClaimOfLaterToken(t *testing.T) {
	r := newRig(t)
	first, second := r.invite("anna", time.Hour), r.invite("ben", time.Hour)
	c := r.claim(first, "room")
	r.claim(second, "room")
	r.revoke("anna")
	r.wantClaim(c, true)
	r.revoke("ben")
	r.wantClaim(c, false)
	if s := r.Stats(); s.Claims != 0 || s.Revoked != 2 {
		t.Errorf("got %+v, want no claim left", s)
	}
}

// TestRestart checks that another process accepts the tokens of the first one.
func TestRestart(t *testing.T) {
	r := newRig(t)
	token := r.invite("anna", time.Hour)
	pass := r.pass(token, false)
	later := newRigIn(t, r.dir, r.clock)
	later.want("the invitation", later.Admit(token, "anna", inbox.Payer{}), nil)
	later.want("the guest pass", later.Admit(pass, "ben", inbox.Payer{}), nil)
	later.want("the guest pass for another", later.Admit(pass, "carol", inbox.Payer{}), ErrOtherNames)
}

// TestJoiners checks what a device can do without an invitation: a mailbox for ten minutes, and
// messages to codes.
func TestJoiners(t *testing.T) {
	r := newRig(t)
	name := func(i int) string { return fmt.Sprintf("join-%021dA", i) }
	net := inbox.Payer{Client: "network"}
	c := r.claim("", name(1))
	for i := range maxJoiners - 1 {
		r.want("another device", r.Admit("", name(i+2), inbox.Payer{Client: "c"}), nil)
	}
	r.want("too many devices", r.Admit("", name(100), inbox.Payer{Client: "c"}), inbox.ErrPayerFull)
	r.want("in another network", r.Admit("", name(101), net), nil)
	for _, wrong := range []string{"join-", "join-short", "join-" + strings.Repeat("A", 23), "code-ABCDEF", "anna"} {
		r.want(wrong, r.Admit("", wrong, net), ErrRequired)
	}
	r.want("a code", r.AdmitSend("", "code-ABCDEF"), nil)
	r.want("another name", r.AdmitSend("", "anna"), ErrRequired)
	r.want("a relay", r.AdmitRelay("", name(1)), ErrRequired)
	r.clock.advance(joinerLifetime)
	r.want("after ten minutes", r.Admit("", name(1), inbox.Payer{Client: "c"}), ErrRequired)
	r.follow()
	r.wantClaim(c, false)
	r.want("a new one", r.Admit("", name(200), inbox.Payer{Client: "c"}), nil)
	if s := r.Stats(); s.Joiners != 1 || s.Claims != 0 {
		t.Errorf("got %+v, want one joiner", s)
	}
}

// TestExpiredInvitationJoinsByCode checks that a device with an old invitation can enter a code.
func TestExpiredInvitationJoinsByCode(t *testing.T) {
	r := newRig(t)
	token := r.invite("anna", time.Hour)
	r.revoke("anna")
	r.want("join", r.Admit(token, "join-AAAAAAAAAAAAAAAAAAAAAA", inbox.Payer{}), nil)
}

// TestForgottenClaims checks that claims which ended otherwise are dropped.
func TestForgottenClaims(t *testing.T) {
	r := newRig(t)
	token := r.invite("anna", 10*time.Hour)
	kept, ended := r.claim(token, "kept"), r.claim(token, "ended")
	if err := r.store.Close(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	r.clock.advance(2 * time.Hour)
	r.forgetClaims(t.Context())
	if s := r.Stats(); s.Claims != 1 {
		t.Errorf("got %d claims, want 1", s.Claims)
	}
	r.wantClaim(kept, true)
}

func TestLabels(t *testing.T) {
	r := newRig(t)
	for _, label := range []string{"", "all", " ", "a:b", "a\nb", strings.Repeat("x", 65)} {
		if _, _, err := Add(t.Context(), r.storage, label, time.Hour, r.clock.Now()); !errors.Is(err, ErrLabel) {
			t.Errorf("%q: got %v, want ErrLabel", label, err)
		}
	}
}

// TestOldInvitationsAreDropped checks the bounds of the registry.
func TestOldInvitationsAreDropped(t *testing.T) {
	r := newRig(t)
	token := r.invite("anna", time.Hour)
	r.clock.advance(time.Hour + keepEnded + time.Second)
	r.invite("ben", time.Hour)
	r.want("dropped", r.Admit(token, "anna", inbox.Payer{}), ErrUnknown)
	err := update(t.Context(), r.storage, r.clock.Now(), func(g *registry) error {
		for len(g.entries) < maxInvitations {
			_, d := newToken()
			g.add(Invitation{Label: "many", Expires: r.clock.Now().Add(time.Hour)}, d)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = Add(t.Context(), r.storage, "one more", time.Hour, r.clock.Now())
	r.want("a full registry", err, ErrFull)
	r.follow()
}

// TestConcurrentChanges checks that no change of several processes is lost.
func TestConcurrentChanges(t *testing.T) {
	r := newRig(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if _, _, err := Add(t.Context(), NewFile(r.dir), fmt.Sprint("label", i), time.Hour, r.clock.Now()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if list, err := List(t.Context(), NewFile(r.dir)); err != nil || len(list) != 8 {
		t.Errorf("got %d invitations, %v, want 8", len(list), err)
	}
}

// TestEveryOwnerOfNameEnds checks that a guest who claims a name again with another password does
// not keep what the first owner was given, such as credentials of a relay.
func TestEveryOwnerOfNameEnds(t *testing.T) {
	r := newRig(t)
	pass := r.pass(r.invite("anna", time.Hour), false)
	first := r.claimAs("first", pass, "ben", inbox.Key{1})
	if err := r.store.Close(t.Context(), first); err != nil { // as if it had expired
		t.Fatal(err)
	}
	second := r.claimAs("second", pass, "ben", inbox.Key{2})
	r.revoke("anna")
	r.wantClaim(second, false)
	if slices.Sort(r.ended); !slices.Equal(r.ended, []string{"first", "second"}) {
		t.Errorf("got the ended owners %q, want both", r.ended)
	}
}

// TestInvitationOfJoinerIsKept checks that a client with an invitation, and a name as one without
// has it, cannot cut the bond by a request without the invitation.
func TestInvitationOfJoinerIsKept(t *testing.T) {
	r := newRig(t)
	const name = "join-AAAAAAAAAAAAAAAAAAAAAA"
	token := r.invite("anna", time.Hour)
	c := r.claim(token, name)
	r.claim("", name)
	r.revoke("anna")
	r.wantClaim(c, false)
	if !slices.Equal(r.ended, []string{"owner of " + name}) {
		t.Errorf("got the ended owners %q, want one", r.ended)
	}
	if s := r.Stats(); s.Claims != 0 || s.Joiners != 0 {
		t.Errorf("got %+v, want nothing left", s)
	}
}

// TestTokenEndsBeforeClaimIsKnown checks that a claim ends that was opened while its invitation was
// revoked, and one of another process, such as that before a restart, whose owner comes back.
func TestTokenEndsBeforeClaimIsKnown(t *testing.T) {
	r := newRig(t)
	token := r.invite("anna", time.Hour)
	r.want("before", r.Admit(token, "anna", inbox.Payer{}), nil)
	c, err := r.store.Open(t.Context(), "anna", inbox.Key{}, &inbox.Payer{})
	if err != nil {
		t.Fatal(err)
	}
	r.revoke("anna")
	r.want("after", r.Opened(token, c, "anna"), ErrExpired)
	r.follow()
	r.wantClaim(c, false)
}

// TestEndedTokenOfInvitedOwner checks that an old invitation does not end the claim of an owner who
// has another one.
func TestEndedTokenOfInvitedOwner(t *testing.T) {
	r := newRig(t)
	old, valid := r.invite("old", time.Hour), r.invite("new", time.Hour)
	r.revoke("old")
	c := r.claim(valid, "anna")
	r.want("with the old one", r.Opened(old, c, "owner of anna"), ErrExpired)
	r.follow()
	r.wantClaim(c, true)
}

// TestJoinersOfOneNetwork checks that one network cannot take the places of all devices that enter
// a code.
func TestJoinersOfOneNetwork(t *testing.T) {
	r := newRig(t)
	admit := func(i int, network string) error {
		payer := inbox.Payer{Client: fmt.Sprint("client ", i/maxJoiners), Network: network}
		return r.Admit("", fmt.Sprintf("join-%021dA", i), payer)
	}
	const share = maxJoiners * quota.NetworkFactor
	for i := range share {
		r.want("a device", admit(i, "one"), nil)
	}
	r.want("one more of the network", admit(share, "one"), inbox.ErrPayerFull)
	r.want("one of another network", admit(share, "two"), nil)
	r.clock.advance(joinerLifetime)
	r.follow()
	r.want("ten minutes later", admit(share+1, "one"), nil)
}

// slowStore does not answer a Discard.
type slowStore struct{ inbox.Store }

func (s slowStore) Discard(ctx context.Context, _ inbox.Claim, _ uint64) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestRevocationWithSlowStore checks that a store that does not answer delays no revocation.
func TestRevocationWithSlowStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(inbox.Limits{Timeout: time.Hour})
		storage := NewFile(t.TempDir())
		token, _, err := Add(t.Context(), storage, "anna", time.Hour, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		a, err := New(Config{Storage: storage, Store: slowStore{store}, Remember: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		go a.Run(t.Context())
		c, err := store.Open(t.Context(), "anna", inbox.Key{}, &inbox.Payer{})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Opened(token, c, "anna"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute) // it asks the store about the claim
		if _, err := Revoke(t.Context(), storage, "anna", time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if err := a.Admit(token, "anna", inbox.Payer{}); !errors.Is(err, ErrExpired) {
			t.Errorf("got %v, want ErrExpired", err)
		}
	})
}

// TestClaimTableHasCeiling checks that claims which have ended make room for others early.
func TestClaimTableHasCeiling(t *testing.T) {
	r := newRig(t)
	r.claims.max = 2
	token := r.invite("anna", time.Hour)
	kept, ended := r.claim(token, "kept"), r.claim(token, "ended")
	r.want("one more", r.Opened(token, inbox.Claim{Name: "more"}, "more"), inbox.ErrTooManyInboxes)
	r.want("a known one", r.Opened(token, kept, "owner of kept"), nil)
	if err := r.store.Close(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	r.forgetClaims(t.Context())
	r.want("one more, later", r.Opened(token, inbox.Claim{Name: "more"}, "more"), nil)
}
