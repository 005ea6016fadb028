package certmagic

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	acmelib "github.com/mholt/acmez/v3/acme"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/timeout"
	"inbox/tlsmgr/internal/tlsconfig"
)

// An order that the CA processes is looked at for pollLimit, and one that is
// resumed for resumePollLimit: then the scheduler waits. The interval doubles from
// pollIntervalMin to pollIntervalMax, unless the CA asks for a longer one.
const (
	pollLimit, resumePollLimit       = 90 * time.Second, 10 * time.Second
	pollIntervalMin, pollIntervalMax = 250 * time.Millisecond, 10 * time.Second
	// downloadAttempts is how often the certificate of a valid order is asked for.
	downloadAttempts = 5
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

// Issue implements certmagic.Issuer. Every error ends certmagic's own attempts.
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

// resume looks at a finalized order.
func (r *orderRun) resume(ctx context.Context, csr *x509.CertificateRequest) (acmelib.Order, error) {
	r.validated = true
	order, err := r.client.GetOrder(ctx, r.account, acmelib.Order{Location: r.order.ResumeURL})
	switch status := r.tap.status(); {
	case err != nil && status >= 400 && status < 500 && status != http.StatusTooManyRequests && !isProblem(err, acmelib.ProblemTypeBadNonce):
		return order, fmt.Errorf("%w: %w", acme.ErrOrderGone, err)
	case err != nil:
		return order, fmt.Errorf("look at the finalized order %s: %w", r.order.ResumeURL, err)
	}
	switch order.Status {
	case acmelib.StatusReady: // the CA did not take the CSR
		return r.finalize(ctx, order, csr)
	case acmelib.StatusPending:
		return order, fmt.Errorf("%w: its validation is missing", acme.ErrOrderGone)
	}
	return r.await(ctx, order, resumePollLimit)
}

// finalize sends the CSR. From then on the CA can issue, whatever it answers: the
// key and the URL of the order are stored before.
func (r *orderRun) finalize(ctx context.Context, order acmelib.Order, csr *x509.CertificateRequest) (acmelib.Order, error) {
	if err := r.saveKey(ctx, order.Location); err != nil {
		return order, fmt.Errorf("store the key before the order is finalized: %w", err)
	}
	r.order.Report(schedule.Finalized, order.Location)
	order, refusal := r.sendCSR(ctx, order, csr)
	if refusal == nil {
		return r.await(ctx, order, pollLimit)
	}
	order, err := r.client.GetOrder(ctx, r.account, order)
	if err == nil && order.Status == acmelib.StatusReady && r.tap.status() < 400 && isServerError(refusal) {
		if order, refusal = r.sendCSR(ctx, order, csr); refusal == nil {
			return r.await(ctx, order, pollLimit)
		}
	}
	if err != nil && !isServerError(refusal) || err == nil && (order.Status == acmelib.StatusReady || order.Status == acmelib.StatusPending) {
		return order, fmt.Errorf("finalize the order: %w", refusal)
	}
	return r.await(ctx, order, pollLimit)
}

// sendCSR makes one request, without the polls of the library. The error is a
// refusal of the CA, or about the request; the order can have been finalized even so.
func (r *orderRun) sendCSR(ctx context.Context, order acmelib.Order, csr *x509.CertificateRequest) (acmelib.Order, error) {
	once := newClient(r.order.CA, r.tap)
	once.PollTimeout = time.Nanosecond
	location := order.Location
	finalized, err := once.FinalizeOrder(ctx, r.account, order, csr.Raw)
	finalized.Location = location
	if status := r.tap.status(); err != nil && (status < 200 || status > 299) && !isProblem(err, acmelib.ProblemTypeOrderNotReady) {
		return finalized, err
	}
	return finalized, ctx.Err() // what else the library has to say, the status of the order says
}

// await polls until the CA has issued. It ends with acme.ErrOrderPending.
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
			r.order.Report(schedule.Processing, order.Location)
		}
		wait := max(r.tap.retryAfter(), interval)
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

// orderRefused is the error of an order that became invalid after it was finalized.
func orderRefused(order acmelib.Order) error {
	err := errors.New("it gives no reason")
	if order.Error != nil {
		err = problemText(*order.Error)
	}
	return &acme.OrderError{Outcome: schedule.CARejected, Err: fmt.Errorf("the CA validated the name but refused to issue: %w", err)}
}

func (r *orderRun) pendingError(order acmelib.Order) error {
	return &acme.OrderError{RetryAfter: r.tap.retryAfter(),
		Err: fmt.Errorf("%w: the name is validated, and order %s is %s", acme.ErrOrderPending, order.Location, order.Status)}
}

// download fetches the certificate. One that no client can use is refused here: it
// must not replace the stored one.
func (r *orderRun) download(ctx context.Context, order acmelib.Order) (acmelib.Certificate, error) {
	var chains []acmelib.Certificate
	var err error
	for n, interval := 1, pollIntervalMin; ; n, interval = n+1, 2*interval {
		chains, err = r.client.GetCertificateChain(ctx, r.account, order.Certificate)
		if err == nil && len(chains) > 0 || n == downloadAttempts || ctx.Err() != nil {
			break
		}
		if err := timeout.Sleep(ctx, max(interval, min(r.tap.retryAfter(), pollIntervalMax))); err != nil {
			break
		}
	}
	if err != nil || len(chains) == 0 {
		return acmelib.Certificate{}, &acme.OrderError{RetryAfter: r.tap.retryAfter(), Err: fmt.Errorf(
			"%w: order %s is valid, but its certificate cannot be downloaded: %w", acme.ErrOrderPending, order.Location, plain(err))}
	}
	if err := r.prove(chains[0].ChainPEM); err != nil {
		return acmelib.Certificate{}, &acme.OrderError{Outcome: schedule.CARejected,
			Err: fmt.Errorf("the CA issued a certificate that no client can use; the present one stays: %w", err)}
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

// orderError tells what an error means for the schedule.
func (r *orderRun) orderError(ctx context.Context, err error) *acme.OrderError {
	var e *acme.OrderError
	if !errors.As(err, &e) {
		e = acme.Classify(r.problemStatus(err), r.tap.errorRetryAfter(), plain(err))
		var problem acmelib.Problem
		if errors.As(err, &problem) {
			if _, isAuthorization := problem.Resource.(acmelib.Authorization); isAuthorization {
				e.Outcome = schedule.ValidationFailed
			}
		}
	}
	if r.validated {
		return e
	}
	started := 0
	if r.challengeStarted {
		started = 1
	}
	return acme.TimedOut(ctx, started, e)
}

// problemStatus returns the status of the response that an error is about; 0 for
// none, and for a rejected nonce, which the library has repeated.
func (r *orderRun) problemStatus(err error) int {
	var problem acmelib.Problem
	switch {
	case isProblem(err, acmelib.ProblemTypeBadNonce):
		return http.StatusServiceUnavailable
	case errors.As(err, &problem):
		return problem.Status
	case strings.Contains(err.Error(), ": HTTP "): // it was no problem document
		return r.tap.status()
	}
	return 0
}

func isProblem(err error, types ...string) bool {
	var problem acmelib.Problem
	if !errors.As(err, &problem) {
		return false
	}
	for _, t := range types {
		if problem.Type == t {
			return true
		}
	}
	return false
}

// isServerError reports whether an error leaves open what the CA did.
func isServerError(err error) bool {
	var problem acmelib.Problem
	return !errors.As(err, &problem) || problem.Status >= 500
}

// plain replaces a problem in an error by its text. It returns nil for nil.
func plain(err error) error {
	var problem acmelib.Problem
	if errors.As(err, &problem) {
		return caError{problemText(problem), err}
	}
	return err
}

// caError is an error with the words of the CA alone.
type caError struct{ text, cause error }

func (e caError) Error() string { return e.text.Error() }
func (e caError) Unwrap() error { return e.cause }

func problemText(p acmelib.Problem) error {
	text := strings.TrimPrefix(p.Type, acmelib.ProblemTypeNamespace) + ": " + p.Detail
	for _, sub := range p.Subproblems {
		text += "; " + sub.Detail
	}
	return fmt.Errorf("the CA says: %s", text)
}
