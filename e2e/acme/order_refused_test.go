package acme

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	xacme "golang.org/x/crypto/acme"

	"inbox/tlsmgr"
)

// A renewal with another account has no replaces field, because the CA would refuse it.
func TestRenewalByAnotherAccount(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{}), newName()
	c := r.config(name)
	c.ACME.Email, c.ACME.Agreed = "", true
	s := r.serve(c)
	s.waitForCert(waitTimeout, name)
	s.stop()
	s = r.serve(r.config(name)) // with an e-mail address
	s.renew(r.ca, name)
	if got := r.ca.requestCount("replaces"); got != 0 {
		t.Errorf("got %d orders with a replaces field, want none", got)
	}
}

// After any refusal of an order with a replaces field, the order is retried without it in
// the same attempt.
func TestReplacementRefused(t *testing.T) {
	t.Parallel()
	plain := func(status int, text string) alteration {
		return func(w http.ResponseWriter, _ *http.Request) bool { http.Error(w, text, status); return true }
	}
	for what, refuse := range map[string]func(*pebble) alteration{
		"another account": func(p *pebble) alteration { return p.refusal(403, "unauthorized") },
		"unauthorized":    func(p *pebble) alteration { return p.refusal(401, "unauthorized") },
		"malformed":       func(p *pebble) alteration { return p.refusal(400, "malformed") },
		"unknown":         func(p *pebble) alteration { return p.refusal(404, "malformed") },
		"replaced":        func(p *pebble) alteration { return p.refusal(409, "alreadyReplaced") },
		"conflict":        func(p *pebble) alteration { return p.refusal(409, "conflict") },
		"rate limited":    func(p *pebble) alteration { return p.refusal(429, "rateLimited") },
		"server error":    func(p *pebble) alteration { return p.refusal(500, "serverInternal") },
		"plain 503":       func(*pebble) alteration { return plain(503, "not now") },
		"plain 400":       func(*pebble) alteration { return plain(400, "unknown field") },
		"not JSON":        func(*pebble) alteration { return plain(200, "welcome") },
		"redirect":        func(*pebble) alteration { return plain(304, "") },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r, name := newRig(t, pebbleOptions{}), newName()
			s := r.serveCertified(name)
			answer := refuse(r.ca)
			r.ca.alter(func(w http.ResponseWriter, r *http.Request) bool { return isReplacement(r) && answer(w, r) })
			s.renew(r.ca, name)
			if got := s.log.count("retrying without the replaces field"); got != 1 {
				t.Errorf("got %d log lines about it, want 1", got)
			}
		})
	}
}

func (p *pebble) refusal(status int, kind string) alteration {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		p.refuse(w, status, kind, "no")
		return true
	}
}

// A CA that refuses replacements only at finalization does not prevent renewals: the order
// after a failed one has no replaces field.
func TestReplacementRefusedAtFinalization(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{}), newName()
	s := r.serveCertified(name)
	r.ca.alter(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.HasPrefix(req.URL.Path, finalizePath) {
			return false
		}
		r.ca.refuse(w, 403, "unauthorized", "no")
		return true
	})
	s.makeDue(r.ca, name)
	eventually(t, waitTimeout, "the order failed", func() bool { return s.state(name).Failures == 1 })
	if got := r.ca.requestCount("replaces"); got != 1 {
		t.Errorf("got %d orders with a replaces field, want 1", got)
	}
	r.ca.alter(nil)
	before := r.ca.orders()
	s.stop()
	shiftSchedule(t, r, name, -time.Hour)
	s = r.serve(r.config(name))
	eventually(t, waitTimeout, "another order is made", func() bool { return r.ca.orders() > before })
	if got := r.ca.requestCount("replaces"); got != 1 {
		t.Errorf("got %d orders with a replaces field after the failure, want 1", got)
	}
}

// accountClient is a client of the CA with the stored account key.
func (r *rig) accountClient(engine string) *xacme.Client {
	r.t.Helper()
	pattern := map[string]string{"certmagic": "acme/*/users/*/*.key", "autocert": "autocert/*/acme_account+key"}[engine]
	return &xacme.Client{DirectoryURL: r.ca.url(), Key: readKey(r.t, statePath(r, pattern)), HTTPClient: r.caHTTPClient()}
}

// An account that can no longer be used is replaced by another one in the same attempt.
func TestAccountUnusable(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		for what, spoil := range map[string]func(*rig, *xacme.Client) error{
			"deactivated": func(r *rig, c *xacme.Client) error { return c.DeactivateReg(r.t.Context()) },
			"key rolled over": func(r *rig, c *xacme.Client) error {
				if _, err := c.GetReg(r.t.Context(), ""); err != nil {
					return err
				}
				return c.AccountKeyRollover(r.t.Context(), newKey(r.t))
			},
			"forgotten": func(r *rig, c *xacme.Client) error {
				account, err := c.GetReg(r.t.Context(), "")
				if err == nil {
					r.ca.forget(account.URI)
				}
				return err
			},
		} {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				r, name := newRig(t, pebbleOptions{validity: 40 * time.Second}).with(engine), newName()
				s := r.serveCertified(name)
				if err := spoil(r, r.accountClient(engine)); err != nil {
					t.Fatal(err)
				}
				before := s.state(name).Fingerprint
				eventually(t, waitTimeout, "the certificate is renewed", func() bool { return s.state(name).Fingerprint != before })
				if got := s.log.count("registering another"); got != 1 && !(engine == "autocert" && what == "key rolled over") { // it registers the key again
					t.Errorf("got %d log lines about the account, want 1", got)
				}
			})
		}
	})
}

// If the CA requires agreement to changed terms, the server agrees and logs their URL.
func TestTermsChanged(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		r, name := newRig(t, pebbleOptions{validity: 40 * time.Second}).with(engine), newName()
		s := r.serveCertified(name)
		var agreed atomic.Bool
		r.ca.alter(func(w http.ResponseWriter, req *http.Request) bool {
			agrees := strings.Contains(payload(req), `"termsOfServiceAgreed":true`)
			switch {
			case agrees && strings.HasPrefix(req.URL.Path, acctPath):
				agreed.Store(true)
			case agrees && req.URL.Path == newAcctPath:
				recorded := r.ca.passOn(req)
				agreed.Store(agreed.Load() || recorded.Code == http.StatusCreated) // not for an existing account
				send(w, recorded, nil)
				return true
			case req.URL.Path == newOrderPath && !agreed.Load():
				w.Header().Set("Link", `<https://ca.test/terms-2>;rel="terms-of-service"`)
				r.ca.refuse(w, 403, "userActionRequired", "terms of service have changed")
				return true
			}
			return false
		})
		before := s.state(name).Fingerprint
		eventually(t, waitTimeout, "the certificate is renewed", func() bool { return s.state(name).Fingerprint != before })
		if !s.log.has("https://ca.test/terms-2") {
			t.Error("the log does not have the URL of the terms")
		}
	})
}

// If the CA requires external account binding or an action for a renewal, the error says so,
// and the certificate stays in use.
func TestAccountDemands(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		for kind, want := range map[string]string{
			"externalAccountRequired": "external account binding",
			"userActionRequired":      "https://ca.test/action",
		} {
			t.Run(kind, func(t *testing.T) {
				t.Parallel()
				r, name := newRig(t, pebbleOptions{validity: time.Minute}).with(engine), newName()
				s := r.serveCertified(name)
				r.ca.alter(func(w http.ResponseWriter, req *http.Request) bool {
					if req.URL.Path != newOrderPath && req.URL.Path != newAcctPath && !strings.HasPrefix(req.URL.Path, acctPath) {
						return false
					}
					w.Header().Set("Link", `<https://ca.test/action>;rel="terms-of-service"`)
					r.ca.refuse(w, 403, kind, "not yet")
					return true
				})
				eventually(t, waitTimeout, "the renewal failed", func() bool { return s.state(name).Failures > 0 })
				n := s.state(name)
				if n.LastError == nil || !strings.Contains(n.LastError.Error()+s.log.String(), want) || n.Source != "acme" {
					t.Errorf("got %v and source %q; want an error about %q and the certificate", n.LastError, n.Source, want)
				}
				if wait := time.Until(n.NextAttempt); wait < 14*time.Minute {
					t.Errorf("got the next attempt in %v, want 15 minutes at least", wait)
				}
				if got := s.log.count("could not be renewed"); got != 1 {
					t.Errorf("got %d log lines, want 1", got)
				}
			})
		}
	})
}

// A refused first order is retried after 15 minutes.
func TestFirstOrderRefused(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		for _, status := range []int{400, 403} {
			t.Run(fmt.Sprint(status), func(t *testing.T) {
				t.Parallel()
				r, name := newRig(t, pebbleOptions{}).with(engine), newName()
				r.ca.alter(func(w http.ResponseWriter, req *http.Request) bool {
					if req.URL.Path == newOrderPath {
						r.ca.refuse(w, status, map[int]string{400: "malformed", 403: "unauthorized"}[status], "policy forbids it")
					}
					return req.URL.Path == newOrderPath
				})
				s := r.serve(r.config(name))
				eventually(t, waitTimeout, "the order failed", func() bool { return s.state(name).LastError != nil && s.state(name).Failures > 0 })
				var n tlsmgr.NameState = s.state(name)
				if !strings.Contains(n.LastError.Error(), "policy forbids it") || time.Until(n.NextAttempt) < 14*time.Minute {
					t.Errorf("got %v, next attempt %v; want the words of the CA and 15 minutes", n.LastError, n.NextAttempt)
				}
				if got := r.ca.orders(); got > 2 {
					t.Errorf("got %d orders, want 2 at most", got)
				}
			})
		}
	})
}
