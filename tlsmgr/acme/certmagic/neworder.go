package certmagic

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/caddyserver/certmagic"
	acmelib "github.com/mholt/acmez/v3/acme"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/hosts"
)

// newOrder creates an order. If the CA refuses it because of the account or the replaced
// certificate, newOrder fixes that and retries once.
func (r *orderRun) newOrder(ctx context.Context) (acmelib.Order, error) {
	replaces := r.replaces(ctx)
	order, err := r.requestOrder(ctx, replaces)
	recovered := false
	if err != nil && isProblem(err, acmelib.ProblemTypeUserActionRequired, acmelib.ProblemTypeAccountDoesNotExist, acmelib.ProblemTypeExternalAccountRequired) {
		if recovered, err = r.recoverAccount(ctx, err); recovered {
			replaces = r.replaces(ctx)
			order, err = r.requestOrder(ctx, replaces)
		}
	}
	if err != nil && replaces != "" && r.tap.status != 0 && ctx.Err() == nil {
		r.Log.Warn("the CA refused the order as a replacement; retrying without the replaces field",
			"name", r.order.Name, "ca", r.order.CA.URL, "err", acme.SanitizeText(plain(err).Error()))
		order, err = r.requestOrder(ctx, "")
	}
	if err != nil && !recovered && r.isRefusal(err) {
		if recovered, err = r.recoverAccount(ctx, err); recovered {
			order, err = r.requestOrder(ctx, "")
		}
	}
	if err != nil {
		return order, r.withAccount(err)
	}
	return order, nil
}

// isRefusal reports whether the CA refused a request for another reason than its load.
func (r *orderRun) isRefusal(err error) bool {
	status := r.problemStatus(err)
	return status >= 400 && status < 500 && !isProblem(err, acmelib.ProblemTypeRateLimited) && status != 429
}

func (r *orderRun) requestOrder(ctx context.Context, replaces string) (acmelib.Order, error) {
	identifier := acmelib.Identifier{Type: "dns", Value: r.order.Name}
	if hosts.IsIP(r.order.Name) {
		identifier.Type = "ip"
	}
	order, err := r.client.NewOrder(ctx, r.account, acmelib.Order{
		Identifiers: []acmelib.Identifier{identifier}, Profile: r.profile(r.order), Replaces: replaces})
	switch {
	case err != nil:
		return order, fmt.Errorf("create an order: %w", err)
	case order.Status == acmelib.StatusInvalid:
		return order, orderRefused(order)
	case order.Location == "" || order.Finalize == "":
		return order, fmt.Errorf("create an order: the response of the CA is incomplete")
	}
	return order, nil
}

// replaces returns the identifier of the stored certificate (RFC 9773, 4.1) if this account
// ordered it at this CA, and the CA supports ARI; else "".
func (r *orderRun) replaces(ctx context.Context) string {
	if r.order.OmitReplaces || r.order.Directory == nil || r.order.Directory.RenewalInfo == "" {
		return ""
	}
	var stored certmagic.CertificateResource
	var issued acmelib.Certificate
	text, err := r.store.Load(ctx, certmagic.StorageKeys.SiteMeta(r.IssuerKey(), r.order.Name))
	if err != nil || json.Unmarshal(text, &stored) != nil || json.Unmarshal(stored.IssuerData, &issued) != nil {
		return ""
	}
	if issued.CA != r.order.CA.URL || issued.Account != r.account.Location {
		return ""
	}
	chain, err := r.store.Load(ctx, certmagic.StorageKeys.SiteCert(r.IssuerKey(), r.order.Name))
	if err != nil {
		return ""
	}
	block, _ := pem.Decode(chain)
	if block == nil {
		return ""
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return ""
	}
	id, err := acmelib.ARIUniqueIdentifier(leaf)
	if err != nil {
		return ""
	}
	return id
}

// authorize completes the challenge of the order's type for each name.
func (r *orderRun) authorize(ctx context.Context, order acmelib.Order) error {
	for _, url := range order.Authorizations {
		a, err := r.client.GetAuthorization(ctx, r.account, url)
		if err == nil && a.Status != acmelib.StatusValid {
			err = r.solve(ctx, a)
		}
		if err != nil {
			return fmt.Errorf("validate the name: %w", err)
		}
	}
	r.validated = true
	return nil
}

func (r *orderRun) solve(ctx context.Context, a acmelib.Authorization) error {
	for _, c := range a.Challenges {
		if c.Type != r.order.ChallengeType.Name {
			continue
		}
		r.challengeStarted = true
		if err := r.present(ctx, r.order, c); err != nil {
			return fmt.Errorf("store the challenge: %w", err)
		}
		defer r.cleanUp(ctx, r.order, c)
		_, err := r.client.InitiateChallenge(ctx, r.account, c)
		if err == nil {
			_, err = r.client.PollAuthorization(ctx, r.account, a)
		}
		if err != nil {
			r.deactivate(ctx, a)
		}
		return err
	}
	return &acme.OrderError{Outcome: schedule.ValidationFailed,
		Err: fmt.Errorf("the CA does not offer the challenge type %s for the name", r.order.ChallengeType.Name)}
}

// deactivate deactivates an unused authorization, because CAs limit pending ones. It does
// nothing during a shutdown.
func (r *orderRun) deactivate(ctx context.Context, a acmelib.Authorization) {
	if ctx.Err() == context.Canceled {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	client := newClient(r.order.CA, r.order.CA.HTTPClient.Transport) // without the tap, which observes the order
	if _, err := client.DeactivateAuthorization(ctx, r.account, a.Location); err != nil {
		r.Log.Debug("cannot deactivate an unused authorization", "name", r.order.Name, "err", acme.SanitizeText(err.Error()))
	}
}
