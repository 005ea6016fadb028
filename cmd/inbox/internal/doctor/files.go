package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"inbox/tlsmgr"
)

// checkFiles checks the certificate and key files.
func (e *examination) checkFiles(context.Context) []Finding {
	if !e.hasCertFiles() {
		return []Finding{good("", "No certificate files (none required).")}
	}
	if found := e.checkServiceUser(); found != nil {
		return found
	}
	pair, err := tlsmgr.LoadKeyPair(e.CertFile, e.KeyFile)
	if err != nil {
		return []Finding{failure(e.CertFile, fmt.Sprintf("The certificate is unusable: %v.", err), fixForKeyPair(err))}
	}
	found := e.checkValidity(pair.Leaf)
	found = append(found, e.checkHostnames(pair.Leaf)...)
	found = append(found, e.checkClients(pair.Leaf)...)
	found = append(found, e.checkTrust(pair)...)
	found = append(found, checkKeyMode(e.KeyFile)...)
	if len(found) == 0 {
		found = []Finding{good(e.CertFile, fmt.Sprintf("The certificate matches its key and is valid until %s.", pair.Leaf.NotAfter.Format(time.DateOnly)))}
	}
	return found
}

// checkServiceUser examines the files as the user of the server: root reads all.
func (e *examination) checkServiceUser() (found []Finding) {
	user, ok := e.serviceUser(e.StateDir)
	if !ok {
		return nil
	}
	for _, file := range []string{e.CertFile, e.KeyFile} {
		if why := user.obstacle(file); why != "" {
			found = append(found, failure(file, fmt.Sprintf("The user of the server (%d, the owner of %s) cannot read it: %s.", user.uid, e.StateDir, why),
				"Copy the files after each renewal with a deploy hook (see docs/recipes.md), or pass them with the drop-in credentials.conf."))
		}
	}
	return found
}

func fixForKeyPair(err error) string {
	var format *tlsmgr.FormatError
	switch {
	case errors.As(err, &format):
		return strings.ToUpper(format.Fix[:1]) + format.Fix[1:] + "."
	case errors.Is(err, tlsmgr.ErrUnusable):
		return "Request a certificate for an ECDSA P-256 or RSA 2048 key."
	case errors.Is(err, os.ErrNotExist):
		return "Set both -server-cert and -server-key, or remove the other file too."
	case errors.Is(err, os.ErrPermission):
		return "Make the files readable for the user that the server runs as."
	case errors.Is(err, tlsmgr.ErrEncryptedKey):
		return "Decrypt it: openssl pkey -in KEY -out NEWKEY."
	case strings.Contains(err.Error(), "does not match"): // crypto/tls has no error value for it
		return "The key belongs to another certificate: set -server-cert and -server-key to a matching pair."
	}
	return "Both files must be PEM: the certificate with its chain in -server-cert, the private key in -server-key."
}

// checkValidity checks the validity period. It warns in its last quarter: lifetimes
// of certificates differ too much for a fixed number of days.
func (e *examination) checkValidity(leaf *x509.Certificate) []Finding {
	now := e.now()
	left, life := leaf.NotAfter.Sub(now), leaf.NotAfter.Sub(leaf.NotBefore)
	switch {
	case left < 0:
		return []Finding{failure(e.CertFile, fmt.Sprintf("The certificate expired on %s.", leaf.NotAfter.Format(time.DateOnly)),
			"Renew it. The server loads the new files automatically.")}
	case now.Before(leaf.NotBefore):
		return []Finding{failure(e.CertFile, fmt.Sprintf("The certificate is not valid before %s.", leaf.NotBefore.Format(time.DateTime)),
			"Check the clock of this machine, or wait until then.")}
	case left < life/4:
		return []Finding{warning(e.CertFile, fmt.Sprintf("The certificate expires on %s, in %s.", leaf.NotAfter.Format(time.DateTime), roughDuration(left)),
			"Renew it, and automate the renewal. The server loads the new files automatically.")}
	}
	return nil
}

// checkHostnames finds the domains that the certificate does not cover.
func (e *examination) checkHostnames(leaf *x509.Certificate) []Finding {
	var missing []string
	for _, name := range e.Domains {
		if !tlsmgr.Covers(leaf, name) {
			missing = append(missing, name)
		}
	}
	if missing == nil {
		return nil
	}
	return []Finding{warning(e.CertFile, fmt.Sprintf("The certificate does not cover %s.", strings.Join(missing, ", ")),
		"These names are not served until the CA has issued a certificate. To serve them earlier, use a certificate that lists them.")}
}

// checkTrust checks whether clients that trust the same roots as this machine
// accept the certificate.
func (e *examination) checkTrust(pair *tls.Certificate) []Finding {
	intermediates := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			intermediates.AddCert(c)
		}
	}
	allRoots := []*x509.CertPool{nil} // those of the machine
	for _, ca := range e.cas {
		allRoots = append(allRoots, ca.roots)
	}
	for _, roots := range allRoots {
		// checkValidity reports expiry, so verify for a time within the validity period.
		_, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: pair.Leaf.NotBefore.Add(time.Second)})
		if err == nil {
			return nil
		}
	}
	text, fix := "The certificate does not chain to a root that this machine trusts.",
		"If a public CA issued it, the intermediate certificates are missing: use the full chain (fullchain.pem). "+
			"The root of a private CA must be installed on every client."
	if pair.Leaf.CheckSignature(pair.Leaf.SignatureAlgorithm, pair.Leaf.RawTBSCertificate, pair.Leaf.Signature) == nil {
		text, fix = "The certificate is self-signed, so browsers show a warning.", "Set -domain, or use a certificate from a CA."
	}
	return []Finding{warning(e.CertFile, text, fix)}
}

// checkKeyMode warns if all users can read the key. A readable group is accepted:
// ACME clients share keys with servers that way.
func checkKeyMode(file string) []Finding {
	info, err := os.Stat(file)
	if err != nil || runtime.GOOS == "windows" || info.Mode().Perm()&0o004 == 0 {
		return nil
	}
	return []Finding{warning(file, fmt.Sprintf("All users of this machine can read the key (mode %04o).", info.Mode().Perm()), "chmod o-rwx "+file)}
}
