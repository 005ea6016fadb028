package autocert

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"

	acmelib "golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/internal/hosts"
)

// Order implements acme.Engine.
func (e *engine) Order(ctx context.Context, o acme.Order) (failed int, err error) {
	ctx, cancel := context.WithTimeout(ctx, acme.OrderTimeout)
	defer cancel()
	if o.ResumeURL != "" { // autocert does not put the key into its cache before the certificate
		return 0, acme.ErrOrderGone
	}
	run := e.newOrderRun(ctx, o)
	if err = run.order(ctx); err != nil && run.recoverAccount(ctx, err) {
		run = e.newOrderRun(ctx, o)
		err = run.order(ctx)
	}
	started := int(run.cache.startedChallenges.Load())
	switch {
	case err == nil:
		return max(started-1, 0), nil // the last validation succeeded
	case run.tap.observed().finalized:
		return max(started-1, 0), run.orderError(err)
	}
	return started, acme.TimedOut(ctx, started, run.orderError(err))
}

func (r *orderRun) order(ctx context.Context) error {
	m := r.manager(r.request, r.cache, r.tap)
	account, err := r.register(ctx, r.request.CA, r.cache, m.Client)
	if err != nil {
		return err
	}
	r.tap.account = account
	r.setOrder(r.request.Name, r.cache)
	defer r.setOrder(r.request.Name, nil)
	defer r.cache.retired.Store(true)
	_, err = m.GetCertificate(clientHello(r.request.Name))
	return err
}

func (e *engine) manager(o acme.Order, cache *orderCache, tap *responseTap) *autocert.Manager {
	m := &autocert.Manager{
		Prompt: autocert.AcceptTOS, // required by acme.Config
		Cache:  cache,
		HostPolicy: func(_ context.Context, host string) error {
			if hosts.FromHeader(host) != o.Name {
				return errors.New("not the ordered name")
			}
			return nil
		},
		Email:                  e.Email,
		ExternalAccountBinding: binding(o.CA),
		Client: &acmelib.Client{DirectoryURL: o.CA.URL, RetryBackoff: retryDelay,
			HTTPClient: &http.Client{Transport: tap, Timeout: acme.RequestTimeout}},
	}
	if !e.NoHTTP {
		m.HTTPHandler(nil) // enables the challenge type; the engine serves the responses
	}
	return m
}

// clientHello returns the ClientHello of a client that supports ECDSA. For other clients,
// autocert would order a second certificate.
func clientHello(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:       name,
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SupportedCurves:  []tls.CurveID{tls.CurveP256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
	}
}
