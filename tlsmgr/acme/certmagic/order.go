package certmagic

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/certmagic"
	acmelib "github.com/mholt/acmez/v3/acme"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/timeout"
	"inbox/tlsmgr/internal/tlsconfig"
)

// A finalized order is polled for pollLimit, or for resumePollLimit when it is resumed;
// then the scheduler waits. The interval doubles from pollIntervalMin to pollIntervalMax,
// unless the CA requests a longer one.
const (
	pollLimit, resumePollLimit       = 90 * time.Second, 10 * time.Second
	pollIntervalMin, pollIntervalMax = 250 * time.Millisecond, 10 * time.Second
	// downloadAttempts is the number of attempts to download the certificate of a valid
	// order.
	downloadAttempts = 5
)

// Order implements acme.Engine.
func (e *engine) Order(ctx context.Context, o acme.Order) (failed int, err error) {
	ctx, cancel := context.WithTimeout(ctx, acme.OrderTimeout)
	defer cancel()
	r := e.newOrderRun(o)
	if o.ResumeURL != "" {
		if err := r.loadKey(ctx); err != nil {
			return 0, err
		}
	}
	config := e.config(r.store)
	config.KeySource, config.Issuers = r, []certmagic.Issuer{r}
	// It also obtains a certificate that does not exist yet.
	if err = config.RenewCertAsync(ctx, o.Name, true); err == nil {
		_ = o.Storage.Delete(ctx, r.pendingKeyPath())
		return 0, nil
	}
	if r.challengeStarted && !r.validated {
		failed = 1
	}
	return failed, r.orderError(ctx, err)
}

// Issue implements certmagic.Issuer. ErrNoRetry keeps certmagic from retrying.
func (r *orderRun) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	chain, err := r.obtain(ctx, csr)
	if err != nil {
		return nil, certmagic.ErrNoRetry{Err: r.orderError(ctx, err)}
	}
	chain.CA = r.order.CA.URL
	return &certmagic.IssuedCertificate{Certificate: chain.ChainPEM, Metadata: chain}, nil
}

func (r *orderRun) obtain(ctx context.Context, csr *x509.CertificateRequest) (chain acmelib.Certificate, err error) {
	if r.account, err = r.useAccount(ctx); err != nil {
		return chain, err
	}
	var order acmelib.Order
	if r.order.ResumeURL != "" {
		order, err = r.resume(ctx, csr)
	} else if order, err = r.newOrder(ctx); err == nil {
		if err = r.authorize(ctx, order); err == nil {
			order, err = r.finalize(ctx, order, csr)
		}
	}
	if err != nil {
		return chain, err
	}
	return r.download(ctx, order)
}

// resume polls a finalized order.
func (r *orderRun) resume(ctx context.Context, csr *x509.CertificateRequest) (acmelib.Order, error) {
	r.validated = true
	order, err := r.client.GetOrder(ctx, r.account, acmelib.Order{Location: r.order.ResumeURL})
	switch status := r.tap.status; {
	case err != nil && status >= 400 && status < 500 && status != http.StatusTooManyRequests && !isProblem(err, acmelib.ProblemTypeBadNonce):
		return order, fmt.Errorf("%w: %w", acme.ErrOrderGone, err)
	case err != nil:
		return order, fmt.Errorf("resume the finalized order %s: %w", r.order.ResumeURL, err)
	}
	switch order.Status {
	case acmelib.StatusReady: // the CA did not receive the CSR
		return r.finalize(ctx, order, csr)
	case acmelib.StatusPending:
		return order, fmt.Errorf("%w: it is not validated", acme.ErrOrderGone)
	}
	return r.await(ctx, order, resumePollLimit)
}

// finalize sends the CSR. From then on the CA can issue, whatever it responds, so the key
// and the URL of the order are stored before.
func (r *orderRun) finalize(ctx context.Context, order acmelib.Order, csr *x509.CertificateRequest) (acmelib.Order, error) {
	if err := r.saveKey(ctx, order.Location); err != nil {
		return order, fmt.Errorf("store the key before the order is finalized: %w", err)
	}
	r.order.Progress(schedule.Finalized, order.Location)
	order, refusal := r.sendCSR(ctx, order, csr)
	if refusal == nil {
		return r.await(ctx, order, pollLimit)
	}
	order, err := r.client.GetOrder(ctx, r.account, order)
	if err == nil && order.Status == acmelib.StatusReady && r.tap.status < 400 && isServerError(refusal) {
		if order, refusal = r.sendCSR(ctx, order, csr); refusal == nil {
			return r.await(ctx, order, pollLimit)
		}
	}
	if err != nil && !isServerError(refusal) || err == nil && (order.Status == acmelib.StatusReady || order.Status == acmelib.StatusPending) {
		return order, fmt.Errorf("finalize the order: %w", refusal)
	}
	return r.await(ctx, order, pollLimit)
}

// sendCSR sends one request, and does not let the library poll. The error is a refusal of
// the CA, or that of the request. Even then the order can be finalized.
func (r *orderRun) sendCSR(ctx context.Context, order acmelib.Order, csr *x509.CertificateRequest) (acmelib.Order, error) {
	once := newClient(r.order.CA, r.tap)
	once.PollTimeout = time.Nanosecond
	location := order.Location
	finalized, err := once.FinalizeOrder(ctx, r.account, order, csr.Raw)
	finalized.Location = location
	if status := r.tap.status; err != nil && (status < 200 || status > 299) && !isProblem(err, acmelib.ProblemTypeOrderNotReady) {
		return finalized, err
	}
	return finalized, ctx.Err() // other errors of the library follow from the status of the order
}

// await polls the order until the CA has issued, or returns acme.ErrOrderPending after
// limit.
func (r *orderRun) await(ctx context.Context, order acmelib.Order, limit time.Duration) (acmelib.Order, error) {
	deadline, interval, reported := time.Now().Add(limit), pollIntervalMin, false
	for {
		switch {
		case order.Status == acmelib.StatusValid && order.Certificate != "":
			return order, nil
		case order.Status == acmelib.StatusInvalid:
			return order, orderRefused(order)
		case order.Status == acmelib.StatusProcessing && !reported:
			reported = true
			r.order.Progress(schedule.Processing, order.Location)
		}
		wait := max(r.tap.retryAfter, interval)
		if time.Now().Add(wait).After(deadline) {
			return order, r.pendingError(order)
		}
		if err := timeout.Sleep(ctx, wait); err != nil {
			return order, err
		}
		interval = min(2*interval, pollIntervalMax)
		if looked, err := r.client.GetOrder(ctx, r.account, order); err == nil {
			order = looked
		} else if ctx.Err() != nil {
			return order, ctx.Err()
		}
	}
}

func (r *orderRun) pendingError(order acmelib.Order) error {
	return &acme.OrderError{RetryAfter: r.tap.retryAfter,
		Err: fmt.Errorf("%w: the name is validated, and order %s is %s", acme.ErrOrderPending, order.Location, order.Status)}
}

// download downloads the certificate. It rejects one that no client can use, because that
// must not replace the stored one.
func (r *orderRun) download(ctx context.Context, order acmelib.Order) (acmelib.Certificate, error) {
	var chains []acmelib.Certificate
	var err error
	for n, interval := 1, pollIntervalMin; ; n, interval = n+1, 2*interval {
		chains, err = r.client.GetCertificateChain(ctx, r.account, order.Certificate)
		if err == nil && len(chains) > 0 || n == downloadAttempts || ctx.Err() != nil {
			break
		}
		if err := timeout.Sleep(ctx, max(interval, min(r.tap.retryAfter, pollIntervalMax))); err != nil {
			break
		}
	}
	if err != nil || len(chains) == 0 {
		return acmelib.Certificate{}, &acme.OrderError{RetryAfter: r.tap.retryAfter, Err: fmt.Errorf(
			"%w: order %s is valid, but its certificate cannot be downloaded: %w", acme.ErrOrderPending, order.Location, plain(err))}
	}
	if err := r.prove(chains[0].ChainPEM); err != nil {
		return acmelib.Certificate{}, &acme.OrderError{Outcome: schedule.CARejected,
			Err: fmt.Errorf("the CA issued a certificate that no client can use; the current one stays in use: %w", err)}
	}
	return chains[0], nil
}

func (r *orderRun) prove(chain []byte) error {
	key, err := certmagic.PEMEncodePrivateKey(r.key)
	if err != nil {
		return err
	}
	cert, err := certs.Parse(chain, key)
	if err != nil {
		return err
	}
	return tlsconfig.Prove(cert)
}
