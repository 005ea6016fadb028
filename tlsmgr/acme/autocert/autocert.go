// Package autocert is the ACME engine that uses golang.org/x/crypto/acme/autocert.
// It does not support IP addresses, profiles, a fallback CA or ARI, and does not resume
// orders.
//
// An autocert.Manager orders when a client connects, renews on its own schedule, and
// cannot be stopped. Each order therefore has its own Manager, which gets the handshake of
// a fictitious client, and is disabled after the order.
package autocert

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/hosts"
	"inbox/tlsmgr/storage"
)

type engine struct {
	*acme.Settings

	mu     sync.Mutex
	orders map[string]*orderCache // in progress, by name

	registerMu sync.Mutex
	registered map[*acme.CAClient]bool
}

var _ acme.EngineFactory = New

// New returns the engine.
func New(s *acme.Settings) (acme.Engine, error) {
	if err := checkSupported(s); err != nil {
		return nil, err
	}
	return newEngine(s), nil
}

func newEngine(s *acme.Settings) *engine {
	return &engine{Settings: s, orders: map[string]*orderCache{}, registered: map[*acme.CAClient]bool{}}
}

func checkSupported(s *acme.Settings) error {
	switch {
	case s.Profile != "":
		return acme.UsageErrorf("autocert does not support certificate profiles; use certmagic")
	case len(s.CAs) > 1:
		return acme.UsageErrorf("autocert does not support a fallback CA; use certmagic")
	case s.NoTLS:
		return acme.UsageErrorf("autocert always tries port 443 first, where each failure counts against the CA's limits; use certmagic")
	}
	for _, name := range s.Names {
		if hosts.IsIP(name) {
			return acme.UsageErrorf("autocert does not support the IP address %s; use certmagic", name)
		}
		if !strings.Contains(name, ".") {
			return acme.UsageErrorf("autocert does not support %s, which has no dot; use certmagic", name)
		}
	}
	return nil
}

func (e *engine) Name() string { return "autocert" }

func (e *engine) Close() {}

// ChallengeTypes returns one entry, because autocert tries TLS-ALPN and then HTTP in one
// order.
func (e *engine) ChallengeTypes() []acme.ChallengeType {
	if e.NoHTTP {
		return []acme.ChallengeType{{Name: acme.TLSALPN01, Validations: 1}}
	}
	return []acme.ChallengeType{{Name: acme.TLSALPN01 + ", " + acme.HTTP01, Validations: 2}}
}

func (e *engine) Load(ctx context.Context, name string) ([]*acme.Certificate, error) {
	bundle, err := e.Storage.Load(ctx, keyOf(e.CAs[0], name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the stored certificate: %w", err)
	}
	cert, err := certs.Parse(bundle, bundle)
	if err != nil {
		return nil, fmt.Errorf("the stored certificate of %s: %w: %w", name, acme.ErrDamaged, err)
	}
	return []*acme.Certificate{{Certificate: cert, CA: e.CAs[0]}}, nil
}

// QuarantineDamaged checks the certificate and the keys of the accounts.
func (e *engine) QuarantineDamaged(ctx context.Context, s storage.Storage, name string) {
	if _, err := e.Load(ctx, name); errors.Is(err, acme.ErrDamaged) {
		_ = s.Quarantine(ctx, keyOf(e.CAs[0], name)) // it logs
	}
	if s.Shared() { // a crash does not damage its values
		return
	}
	for _, ca := range e.ChallengeCAs() {
		key := keyOf(ca, accountKey)
		if text, err := s.Load(ctx, key); err == nil {
			if block, _ := pem.Decode(text); block == nil {
				_ = s.Quarantine(ctx, key)
			}
		}
	}
}

func (e *engine) RenewalInfo(context.Context, *acme.Certificate) (schedule.ARI, error) {
	return schedule.ARI{}, acme.ErrNoRenewalInfo
}

// orderRun makes one order with its own Manager.
type orderRun struct {
	*engine
	request acme.Order
	cache   *orderCache
	tap     *responseTap
}

func (e *engine) newOrderRun(ctx context.Context, o acme.Order) *orderRun {
	cache := &orderCache{order: o}
	return &orderRun{engine: e, request: o, cache: cache, tap: &responseTap{ctx: ctx, next: o.CA.HTTPClient.Transport}}
}
