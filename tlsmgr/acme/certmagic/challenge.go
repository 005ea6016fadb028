package certmagic

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"path"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	acmelib "github.com/mholt/acmez/v3/acme"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/internal/hosts"
)

// challengePath returns the storage key of the challenge of a name, in certmagic's layout.
func (e *engine) challengePath(ca *acme.CAClient, name string) string {
	safe := certmagic.StorageKeys.Safe
	return path.Join("acme", safe(e.issuers[ca].IssuerKey()), "challenge_tokens", safe(name)+".json")
}

// present makes a challenge available to this process and, through storage, to others.
func (e *engine) present(ctx context.Context, o acme.Order, c acmelib.Challenge) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := o.Challenges.Store(ctx, e.challengePath(o.CA, o.Name), text); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.presented[o.Name] = c
	return nil
}

// cleanUpTimeout bounds the deletion of a challenge after its order has ended.
const cleanUpTimeout = 2 * time.Second

func (e *engine) cleanUp(ctx context.Context, o acme.Order, _ acmelib.Challenge) {
	e.mu.Lock()
	delete(e.presented, o.Name)
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	_ = o.Challenges.Delete(ctx, e.challengePath(o.CA, o.Name)) // the next order overwrites it
}

// challenge returns the challenge of a name: of an order of this process, or, if
// fromStorage is set, of another process.
func (e *engine) challenge(ctx context.Context, name string, fromStorage bool) (c acmelib.Challenge, ok bool) {
	e.mu.Lock()
	c, ok = e.presented[name]
	e.mu.Unlock()
	if ok || !fromStorage {
		return c, ok
	}
	for _, ca := range e.ChallengeCAs() {
		text, err := e.Challenges.Load(ctx, e.challengePath(ca, name))
		if err == nil && json.Unmarshal(text, &c) == nil {
			return c, true
		}
	}
	return c, false
}

func (e *engine) AnswerTLS(hello *tls.ClientHelloInfo, fromStorage bool) (*tls.Certificate, error) {
	c, ok := e.challenge(hello.Context(), acme.ChallengedName(hello.ServerName), fromStorage)
	if !ok || c.Type != acme.TLSALPN01 {
		return nil, nil
	}
	return acmez.TLSALPN01ChallengeCert(c)
}

func (e *engine) AnswerHTTP(r *http.Request, fromStorage bool) []byte {
	c, ok := e.challenge(r.Context(), hosts.FromHeader(r.Host), fromStorage)
	if !ok || c.Type != acme.HTTP01 || r.Method != http.MethodGet || r.URL.Path != c.HTTP01ResourcePath() {
		return nil
	}
	return []byte(c.KeyAuthorization)
}
