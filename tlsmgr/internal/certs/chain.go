package certs

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"
)

// sortChain returns a PEM chain with the certificate of the key first, and each followed by
// its issuer, as TLS requires. Of several certificates for the key, as after an appended
// renewal, it keeps the one that is valid, or expires last. Without a certificate for the
// key it returns the chain unchanged.
func sortChain(chain []byte, key crypto.PublicKey, now time.Time) []byte {
	var all []*x509.Certificate
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return chain
		}
		all = append(all, c)
	}
	leaf := leafOf(all, key, now)
	if leaf == nil {
		return chain
	}
	var sorted []byte
	for c := leaf; c != nil; c = issuerOf(c, all) {
		sorted = append(sorted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		all = slices.DeleteFunc(all, func(other *x509.Certificate) bool { return bytes.Equal(other.Raw, c.Raw) })
	}
	for _, c := range all { // such as a cross-signed chain
		if !samePublicKey(c.PublicKey, key) {
			sorted = append(sorted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
	}
	return sorted
}

func leafOf(all []*x509.Certificate, key crypto.PublicKey, now time.Time) (leaf *x509.Certificate) {
	for _, c := range all {
		if !samePublicKey(c.PublicKey, key) {
			continue
		}
		valid := CheckValidity(c, now) == nil
		leafValid := leaf != nil && CheckValidity(leaf, now) == nil
		if leaf == nil || valid && !leafValid || valid == leafValid && c.NotAfter.After(leaf.NotAfter) {
			leaf = c
		}
	}
	return leaf
}

func samePublicKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

func issuerOf(c *x509.Certificate, all []*x509.Certificate) *x509.Certificate {
	for _, issuer := range all {
		if bytes.Equal(issuer.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(issuer) == nil {
			return issuer
		}
	}
	return nil
}

// LacksIntermediate reports whether a chain lacks the certificate of the issuer. Some
// clients fetch it, others fail.
func LacksIntermediate(c *tls.Certificate) bool {
	if len(c.Certificate) > 1 || len(c.Leaf.IssuingCertificateURL) == 0 {
		return false
	}
	_, err := c.Leaf.Verify(x509.VerifyOptions{CurrentTime: c.Leaf.NotBefore.Add(time.Second), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err != nil
}
