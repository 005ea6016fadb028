package invite

import (
	"errors"
	"strings"
	"testing"
	"time"

	"inbox/inbox"
)

func TestTokenIsReadBack(t *testing.T) {
	token, want := newToken()
	for _, text := range []string{token, strings.ToUpper(token)} {
		if got, err := parseToken(text); err != nil || got != want {
			t.Errorf("%s: got %x, %v, want %x", text, got, err, want)
		}
	}
	if other, _ := newToken(); other == token || len(token) > MaxTokenBytes {
		t.Errorf("got %s and %s, want two short tokens", token, other)
	}
}

// TestTruncatedAndMisspelledTokens checks that no part of a token, and no token with another
// character, is taken for a token that is not known.
func TestTruncatedAndMisspelledTokens(t *testing.T) {
	token, _ := newToken()
	for n := range len(token) {
		if _, err := parseToken(token[:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("the first %d characters: got %v, want ErrDamaged", n, err)
		}
		changed := []byte(token)
		if changed[n]++; changed[n] == '_'+1 || changed[n] == 'z'+1 {
			changed[n] = 'a'
		}
		if _, err := parseToken(string(changed)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", changed, err)
		}
	}
	if _, err := parseToken(token + "a"); !errors.Is(err, ErrDamaged) {
		t.Errorf("a longer one: got %v, want ErrDamaged", err)
	}
}

// signedPass returns a guest pass for anna and ben, with what verifies it.
func signedPass(payer inbox.Payer) (text string, key passKey, id invitationID) {
	r := newRegistry()
	_, d := newToken()
	r.add(Invitation{Label: "anna"}, d)
	e := r.entries[0]
	return e.key.mint(e.id, [2]string{"anna", "ben"}, time.Unix(1790000000, 0), payer), e.key, e.id
}

func TestPassIsReadBack(t *testing.T) {
	client, network := strings.Repeat("c", payerBytes), strings.Repeat("n", payerBytes)
	for _, payer := range []inbox.Payer{{}, {Client: client}, {Client: client, Network: network}} {
		text, key, id := signedPass(payer)
		p, err := parsePass(text)
		if err != nil || !key.signs(p) || p.id != id || p.expires.Unix() != 1790000000 || len(text) > MaxTokenBytes {
			t.Errorf("got %+v, %v of %s", p, err, text)
		}
		if p.names != [2]nameTag{key.tagOf("anna"), key.tagOf("ben")} || p.names[0] == key.tagOf("carol") {
			t.Errorf("got the tags %x", p.names)
		}
		if got := key.payerOf(p); got != payer {
			t.Errorf("got the payer %q, want %q", got, payer)
		}
		if payer.Client != "" && strings.Contains(string(p.signed), client) {
			t.Error("the pass shows its payer")
		}
	}
}

// TestForgedPasses changes each bit of a guest pass, and signs one with another key.
func TestForgedPasses(t *testing.T) {
	text, key, _ := signedPass(inbox.Payer{Client: strings.Repeat("c", payerBytes)})
	raw, err := passCoding.DecodeString(strings.TrimPrefix(text, passPrefix))
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		for bit := range 8 {
			raw[i] ^= 1 << bit
			if p, err := parsePass(passPrefix + passCoding.EncodeToString(raw)); err != nil || key.signs(p) {
				t.Errorf("byte %d, bit %d: got %v, and a valid signature", i, bit, err)
			}
			raw[i] ^= 1 << bit
		}
	}
	for n := range len(text) {
		if p, err := parsePass(text[:n]); err == nil && key.signs(p) {
			t.Errorf("the first %d characters are valid", n)
		}
	}
	_, other, _ := signedPass(inbox.Payer{})
	if p, _ := parsePass(text); other.signs(p) {
		t.Error("the key of another invitation has signed the pass")
	}
}

// FuzzToken checks that no text is accepted that the server has not made.
func FuzzToken(f *testing.F) {
	token, known := newToken()
	pass, key, _ := signedPass(inbox.Payer{})
	for _, seed := range []string{"", token, token[:20], pass, pass[:40], tokenPrefix, passPrefix, "invite_\xff", "guest_====", pass + "A"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseToken(text)
		if err == nil && (d == known) != strings.EqualFold(text, token) {
			t.Errorf("%q was taken for %s", text, token)
		}
		if p, err := parsePass(text); err == nil && key.signs(p) && text != pass {
			t.Errorf("%q is signed", text)
		}
	})
}

// FuzzRegistry checks that a stored registry that is accepted is stored in the same form.
func FuzzRegistry(f *testing.F) {
	r := newRegistry()
	_, d := newToken()
	r.add(Invitation{Label: "anna", Created: time.Unix(1, 0).UTC(), Expires: time.Unix(2, 0).UTC()}, d)
	text, err := r.encode()
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"", "{}", string(text), string(text[:100]), `{"format":2}`, `{"format":1,"secret":"AAAA"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := decodeRegistry(text)
		if err != nil {
			return
		}
		again, err := r.encode()
		if err != nil {
			return // a year that JSON cannot have
		}
		other, err := decodeRegistry(again)
		if err != nil || len(other.entries) != len(r.entries) {
			t.Errorf("%q became %q: %v", text, again, err)
		}
	})
}
