package doctor

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"time"
)

// maxLifetime is what browsers accept of a public CA.
const maxLifetime = 398 * 24 * time.Hour

// checkClients warns about keys and lifetimes that work with this server, and that
// common clients reject.
func (e *examination) checkClients(leaf *x509.Certificate) (found []Finding) {
	const fix = "Request a certificate for an ECDSA P-256 or RSA 2048 key."
	switch key := leaf.PublicKey.(type) {
	case ed25519.PublicKey:
		found = append(found, warning(e.CertFile, "The key is Ed25519, which no browser accepts.", fix))
	case *ecdsa.PublicKey:
		if bits := key.Curve.Params().BitSize; bits > 384 {
			found = append(found, warning(e.CertFile, fmt.Sprintf("The key is ECDSA P-%d, which Chromium and other browsers reject.", bits), fix))
		}
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < 2048 {
			found = append(found, warning(e.CertFile, fmt.Sprintf("The RSA key has %d bits. Browsers and OpenSSL reject less than 2048.", bits), fix))
		}
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life > maxLifetime+24*time.Hour {
		found = append(found, warning(e.CertFile, fmt.Sprintf("The certificate is valid for %s. Browsers reject more than 398 days from a public CA, and Apple's more than 825 from any.", roughDuration(life)),
			"Request one that is valid for 398 days at most, and automate the renewal."))
	}
	return found
}
