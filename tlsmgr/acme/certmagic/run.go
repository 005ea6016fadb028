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

// orderRun makes one order with the protocol client acmez. It is the issuer of a
// certmagic.Config, which generates the key and stores the certificate. certmagic's own
// issuer cannot resume an order, does not report its progress, and tries another challenge
// type after every failure.
type orderRun struct {
	*engine
	order   acme.Order
	store   *store
	tap     *responseTap
	client  *acmelib.Client
	account acmelib.Account
	key     crypto.PrivateKey // of the certificate
	// challengeStarted: the CA can have tried to validate. validated: the validation has
	// succeeded, so that another challenge type is of no help after a failure.
	challengeStarted, validated bool
}

func (e *engine) newOrderRun(o acme.Order) *orderRun {
	tap := &responseTap{next: o.CA.HTTPClient.Transport, directoryURL: o.CA.URL}
	return &orderRun{engine: e, order: o, store: newStore(o.Storage), tap: tap, client: newClient(o.CA, tap)}
}

// newClient returns a protocol client. acmez caches directories by URL; the fragment
// distinguishes the directory without ARI, which a responseTap returns.
func newClient(ca *acme.CAClient, transport http.RoundTripper) *acmelib.Client {
	return &acmelib.Client{Directory: ca.URL + "#orders", UserAgent: userAgent, PollTimeout: acme.OrderTimeout,
		HTTPClient: &http.Client{Transport: transport, Timeout: acme.RequestTimeout}}
}

// IssuerKey implements certmagic.Issuer.
func (r *orderRun) IssuerKey() string { return r.issuers[r.order.CA].IssuerKey() }

// GenerateKey implements certmagic.KeyGenerator. It returns the stored key for a resumed
// order, whose CSR contains it.
func (r *orderRun) GenerateKey() (crypto.PrivateKey, error) {
	if r.key != nil {
		return r.key, nil
	}
	key, err := certmagic.StandardKeyGenerator{KeyType: certmagic.P256}.GenerateKey()
	r.key = key
	return key, err
}

// pendingKey is the private key of a finalized order, as it is stored.
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

// loadKey loads the private key of the order that is resumed.
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
