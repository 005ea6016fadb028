package acme

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"inbox/tlsmgr"
)

// Two keys for external account binding (EAB).
const (
	eabKey      = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	otherEABKey = "b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH"
)

// configEAB is config with external account binding.
func (r *rig) configEAB(name, id, key string) tlsmgr.Config {
	c := r.config(name)
	c.ACME.CA.EABKeyID, c.ACME.CA.EABKeyFile = id, filepath.Join(r.t.TempDir(), "mac")
	writeFile(r.t, c.ACME.CA.EABKeyFile, []byte(key+"\n"))
	return c
}

func TestExternalAccountBinding(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		r, name := newRig(t, pebbleOptions{eab: map[string]string{"kid-1": eabKey}}).with(engine), newName()
		r.serve(r.configEAB(name, "kid-1", eabKey)).waitForCert(waitTimeout, name)
	})
}

func TestWrongEABKeyReportsCAError(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{eab: map[string]string{"kid-1": eabKey}}), newName()
	s := r.serve(r.configEAB(name, "kid-1", otherEABKey))
	eventually(t, waitTimeout, "the state contains the failure", func() bool { return s.state(name).Failures == 1 })
	if !s.log.has("the CA says: unauthorized") {
		t.Error("the log does not contain the error of the CA")
	}
	if wait := time.Until(s.state(name).NextAttempt); wait < 14*time.Minute {
		t.Errorf("got the next attempt in %v, want 15 minutes at least", wait)
	}
}

// eabPolicy knows which key each account is bound to, and makes the CA refuse orders of
// accounts that are not bound to the demanded key.
type eabPolicy struct {
	mu       sync.Mutex
	demanded string            // empty: none
	bound    map[string]string // key IDs by account URL
}

func (p *eabPolicy) demand(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.demanded = id
}

// accepts reports whether an account may order.
func (p *eabPolicy) accepts(account string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.demanded == "" || p.bound[account] == p.demanded
}

func (p *eabPolicy) accounts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.bound)
}

// apply makes the CA follow the policy.
func (p *eabPolicy) apply(ca *pebble) {
	ca.alter(func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case newAcctPath:
			id := eabKeyID(payload(r))
			recorded := ca.passOn(r)
			if recorded.Code == http.StatusCreated {
				p.mu.Lock()
				p.bound[recorded.Header().Get("Location")] = id
				p.mu.Unlock()
			}
			send(w, recorded, nil)
			return true
		case newOrderPath:
			var header struct{ Kid string }
			json.Unmarshal([]byte(signedPart(r, "protected")), &header)
			if !p.accepts(header.Kid) {
				ca.refuse(w, 403, "externalAccountRequired", "bind the account")
				return true
			}
		}
		return false
	})
}

// eabKeyID returns the key ID in a request for an account; empty: none.
func eabKeyID(request string) string {
	var account struct{ ExternalAccountBinding struct{ Protected string } }
	json.Unmarshal([]byte(request), &account)
	text, _ := base64.RawURLEncoding.DecodeString(account.ExternalAccountBinding.Protected)
	var header struct{ Kid string }
	json.Unmarshal(text, &header)
	return header.Kid
}

// If the CA requires external account binding later, or with another key, another account is
// registered with the configured key in the same attempt.
func TestEABDemandedLater(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		for what, firstKeyID := range map[string]string{"no key before": "", "another key before": "kid-1"} {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				r, name := newRig(t, pebbleOptions{validity: 40 * time.Second, eabOptional: true,
					eab: map[string]string{"kid-1": eabKey, "kid-2": otherEABKey}}).with(engine), newName()
				policy := &eabPolicy{bound: map[string]string{}}
				policy.apply(r.ca)
				c := r.config(name)
				if firstKeyID != "" {
					c = r.configEAB(name, firstKeyID, eabKey)
				}
				s := r.serve(c)
				s.waitForCert(waitTimeout, name)
				s.stop()
				policy.demand("kid-2")
				s = r.serve(r.configEAB(name, "kid-2", otherEABKey))
				before := s.state(name).Fingerprint
				eventually(t, waitTimeout, "the certificate is renewed", func() bool { return s.state(name).Fingerprint != before })
				if n := s.state(name); n.Failures != 0 || n.LastError != nil {
					t.Errorf("got %d failures and %v, want a renewal in the first attempt", n.Failures, n.LastError)
				}
				if got := s.log.count("registering another"); got != 1 {
					t.Errorf("got %d log lines about the account, want 1", got)
				}
				if got := policy.accounts(); got != 2 {
					t.Errorf("got %d accounts, want 2", got)
				}
			})
		}
	})
}
