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

// checkFiles looks at the certificate that an operator keeps in files.
func (e *examination) checkFiles(context.Context) []Finding {
	if !e.hasCertFiles() {
		return []Finding{good("", "There are none, and none are needed.")}
	}
	pair, err := tlsmgr.LoadKeyPair(e.CertFile, e.KeyFile)
	if err != nil {
		return []Finding{failure(e.CertFile, fmt.Sprintf("The certificate cannot be used: %v.", err), fixForKeyPair(err))}
	}
	found := e.checkValidity(pair.Leaf)
	found = append(found, e.checkHostnames(pair.Leaf)...)
	found = append(found, e.checkTrust(pair)...)
	found = append(found, checkKeyMode(e.KeyFile)...)
	if len(found) == 0 {
		found = []Finding{good(e.CertFile, fmt.Sprintf("The certificate fits its key, and is good until %s.", pair.Leaf.NotAfter.Format(time.DateOnly)))}
	}
	return found
}

func fixForKeyPair(err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "Name both files, with -server-cert and -server-key, or move the other one away too."
	case errors.Is(err, os.ErrPermission):
		return "Let the user that the server runs as read the files."
	case errors.Is(err, tlsmgr.ErrEncryptedKey):
		return "Unlock it: openssl pkey -in KEY -out NEWKEY."
	case strings.Contains(err.Error(), "does not match"): // crypto/tls has no value for it
		return "The key is that of another certificate: name the two that were made together."
	}
	return "Both must be PEM: the certificate with its chain in -server-cert, the private key in -server-key."
}

// checkValidity is about the days of a certificate. How near an end is depends on
// the life of it, since lives are getting shorter.
func (e *examination) checkValidity(leaf *x509.Certificate) []Finding {
	now := e.now()
	left, life := leaf.NotAfter.Sub(now), leaf.NotAfter.Sub(leaf.NotBefore)
	switch {
	case left < 0:
		return []Finding{failure(e.CertFile, fmt.Sprintf("The certificate ended on %s.", leaf.NotAfter.Format(time.DateOnly)),
			"Renew it; the server takes the new files up by itself.")}
	case now.Before(leaf.NotBefore):
		return []Finding{failure(e.CertFile, fmt.Sprintf("The certificate begins only on %s.", leaf.NotBefore.Format(time.DateTime)),
			"See whether the clock is right; else wait until then.")}
	case left < life/4:
		return []Finding{warning(e.CertFile, fmt.Sprintf("The certificate ends on %s, in %s.", leaf.NotAfter.Format(time.DateTime), roughDuration(left)),
			"Renew it, and see what renews it by itself; the server takes the new files up.")}
	}
	return nil
}

// roughDuration is a time as a person says it.
func roughDuration(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return plural(int(d/(24*time.Hour)), "day")
	case d >= 2*time.Hour:
		return plural(int(d/time.Hour), "hour")
	}
	return plural(int(d/time.Minute), "minute")
}

// checkHostnames finds the names for which the files cannot stand in.
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
	return []Finding{warning(e.CertFile, fmt.Sprintf("The certificate is not for %s.", strings.Join(missing, ", ")),
		"These names are served only once the CA has given a certificate. If the files are to stand in, have one made that lists them.")}
}

// checkTrust finds out whether a browser like this machine would accept it.
func (e *examination) checkTrust(pair *tls.Certificate) []Finding {
	intermediates := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			intermediates.AddCert(c)
		}
	}
	for _, roots := range []*x509.CertPool{nil, e.Roots, e.SecondRoots} { // nil: those of the machine
		// The term of it is somebody else's matter, so a moment within it is taken.
		_, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: pair.Leaf.NotBefore.Add(time.Second)})
		if err == nil {
			return nil
		}
	}
	text, fix := "No root that this machine trusts stands behind the certificate.",
		"If it is from a public CA, its chain is missing: use the full chain (fullchain.pem). A private CA's root must be installed wherever it is to be trusted."
	if pair.Leaf.CheckSignature(pair.Leaf.SignatureAlgorithm, pair.Leaf.RawTBSCertificate, pair.Leaf.Signature) == nil {
		text, fix = "The certificate is signed by itself, so browsers warn of it.", "For everyone to trust it, give -domain, or files from a CA."
	}
	return []Finding{warning(e.CertFile, text, fix)}
}

// checkKeyMode warns of a key that everyone on the machine can read. A group
// may: that is how a certificate client shares keys with servers.
func checkKeyMode(file string) []Finding {
	info, err := os.Stat(file)
	if err != nil || runtime.GOOS == "windows" || info.Mode().Perm()&0o004 == 0 {
		return nil
	}
	return []Finding{warning(file, fmt.Sprintf("Every user of this machine can read the key (mode %04o).", info.Mode().Perm()), "chmod o-rwx "+file)}
}
