package certs

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"inbox/internal/atomicfile"
)

// Load reads and parses a PEM chain and its key.
func Load(certFile, keyFile string) (*tls.Certificate, error) {
	chain, err := readPEM(certFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	key, err := readPEM(keyFile)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	cert, err := Parse(chain, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", certFile, keyFile, err)
	}
	return cert, nil
}

// readPEM reads a PEM file without a byte order mark.
func readPEM(path string) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, &FormatError{path, "a folder", "give the file in it, such as " + filepath.Join(path, "fullchain.pem")}
	}
	data, err := atomicfile.Read(path, MaxFileBytes)
	if err != nil {
		return nil, err
	}
	data = bytes.TrimPrefix(data, utf8BOM)
	if err := checkFormat(path, data); err != nil {
		return nil, err
	}
	return data, checkCurve(path, data)
}

// Parse parses a PEM chain, in any order, and its key. Leaf is set.
func Parse(chain, key []byte) (*tls.Certificate, error) {
	for block, rest := pem.Decode(key); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return nil, ErrEncryptedKey
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			break
		}
	}
	if public := publicKey(key); public != nil {
		chain = sortChain(chain, public, time.Now())
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, err
	}
	return &cert, nil
}

// publicKey returns the public key of the first private key, or nil.
func publicKey(key []byte) crypto.PublicKey {
	for block, rest := pem.Decode(key); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "PRIVATE KEY" && !strings.HasSuffix(block.Type, " PRIVATE KEY") {
			continue
		}
		if private, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if signer, ok := private.(crypto.Signer); ok {
				return signer.Public()
			}
		}
		if private, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return private.Public()
		}
		if private, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
			return private.Public()
		}
		return nil
	}
	return nil
}
