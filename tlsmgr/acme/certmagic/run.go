package certmagic

import (
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/caddyserver/certmagic"
	acmelib "github.com/mholt/acmez/v3/acme"

	"inbox/tlsmgr/acme"
)

// orderRun is one order. It is the issuer of a certmagic.Config, which generates
// the key and stores what the order brings, and makes the order with acmez's
// protocol client: certmagic's own issuer can neither resume an order nor tell how
// far one has come, and it tries another challenge type whatever failed.
type orderRun struct {
	*engine
	order   acme.Order
	store   *store
	tap     *responseTap
	client  *acmelib.Client
	account acmelib.Account
	key     crypto.PrivateKey // of the certificate
	// challengeStarted: from then on the CA can validate. validated: it has, so no
	// validation failed, and no other challenge type helps.
	challengeStarted, validated bool
}

func (e *engine) newOrderRun(o acme.Order) *orderRun {
	tap := &responseTap{next: o.CA.HTTPClient.Transport, directoryURL: o.CA.URL}
	return &orderRun{engine: e, order: o, store: newStore(o.Storage), tap: tap, client: newClient(o.CA, tap)}
}

// newClient returns a client that knows no renewal information if transport is a
// responseTap. acmez caches directories by URL, so this one gets a name of its own.
func newClient(ca *acme.CAClient, transport http.RoundTripper) *acmelib.Client {
	return &acmelib.Client{Directory: ca.URL + "#orders", UserAgent: userAgent, PollTimeout: acme.OrderTimeout,
		HTTPClient: &http.Client{Transport: transport, Timeout: acme.RequestTimeout}}
}

// IssuerKey implements certmagic.Issuer.
func (r *orderRun) IssuerKey() string { return r.issuers[r.order.CA].IssuerKey() }

// GenerateKey implements certmagic.KeyGenerator. A resumed order keeps its key,
// which the CA has seen.
func (r *orderRun) GenerateKey() (crypto.PrivateKey, error) {
	if r.key != nil {
		return r.key, nil
	}
	key, err := certmagic.StandardKeyGenerator{KeyType: certmagic.P256}.GenerateKey()
	r.key = key
	return key, err
}

// pendingKey is the key of the certificate that a finalized order brings.
type pendingKey struct {
	OrderURL string
	Key      string // PEM
}

func (r *orderRun) pendingKeyPath() string {
	return "orders/" + certmagic.StorageKeys.Safe(r.IssuerKey()) + "/" + certmagic.StorageKeys.Safe(r.order.Name) + ".json"
}

func (r *orderRun) saveKey(ctx context.Context, orderURL string) error {
	text, err := certmagic.PEMEncodePrivateKey(r.key)
	if err != nil {
		return err
	}
	value, err := json.Marshal(pendingKey{orderURL, string(text)})
	if err != nil {
		return err
	}
	return r.order.Storage.Store(ctx, r.pendingKeyPath(), value)
}

// loadKey reads the key of the order that is resumed.
func (r *orderRun) loadKey(ctx context.Context) error {
	value, err := r.order.Storage.Load(ctx, r.pendingKeyPath())
	if err != nil {
		return fmt.Errorf("%w: its key cannot be read: %w", acme.ErrOrderGone, err)
	}
	var pending pendingKey
	if err := json.Unmarshal(value, &pending); err != nil || pending.OrderURL != r.order.ResumeURL {
		return fmt.Errorf("%w: its key is not stored", acme.ErrOrderGone)
	}
	if r.key, err = certmagic.PEMDecodePrivateKey([]byte(pending.Key)); err != nil {
		return fmt.Errorf("%w: its key is damaged: %w", acme.ErrOrderGone, err)
	}
	return nil
}
