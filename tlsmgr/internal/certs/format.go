package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"strings"
)

// FormatError is the error for a file in a format that the server does not support.
type FormatError struct {
	Path string
	What string // the format
	Fix  string // a command that converts the file, or what to do
}

func (e *FormatError) Error() string { return fmt.Sprintf("%s is %s; %s", e.Path, e.What, e.Fix) }

var utf8BOM = []byte("\xef\xbb\xbf")

// checkFormat returns a FormatError for a file in a known format other than PEM. A file
// that passes can still be invalid.
func checkFormat(path string, data []byte) error {
	refuse := func(what, fix string) error { return &FormatError{path, what, fix} }
	converted := path + ".pem"
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return refuse("empty", "copy it again")
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		return refuse("UTF-16 text", fmt.Sprintf("convert it with: iconv -f UTF-16 -t UTF-8 %s > %s", path, converted))
	case bytes.HasPrefix(data, []byte("-----BEGIN\x00")) || bytes.HasPrefix(data, []byte("-\x00-\x00")):
		return refuse("UTF-16 text", fmt.Sprintf("convert it with: iconv -f UTF-16LE -t UTF-8 %s > %s", path, converted))
	case data[0] == 0x30:
		return checkDER(path, data)
	}
	if block, _ := pem.Decode(data); block != nil {
		switch {
		case block.Type == "PKCS7":
			return refuse("a PKCS#7 container", fmt.Sprintf("convert it with: openssl pkcs7 -print_certs -in %s -out %s", path, converted))
		case block.Type == "CERTIFICATE REQUEST" || block.Type == "NEW CERTIFICATE REQUEST":
			return refuse("a certificate request", "use the certificate that the CA issued for it")
		case block.Type == "OPENSSH PRIVATE KEY":
			return refuse("an OpenSSH key", fmt.Sprintf("convert a copy of it with: ssh-keygen -p -N \"\" -m PEM -f %s", converted))
		case block.Type == "TRUSTED CERTIFICATE":
			return refuse("a certificate in OpenSSL's own format", fmt.Sprintf("convert it with: openssl x509 -in %s -out %s", path, converted))
		}
	}
	return nil
}

// checkDER returns the FormatError of a file in a binary format.
func checkDER(path string, data []byte) error {
	refuse := func(what, command string) error {
		return &FormatError{path, what, fmt.Sprintf("convert it with: "+command, path, path+".pem")}
	}
	var pkcs12 struct {
		Version int
		Rest    asn1.RawValue
	}
	var pkcs7 struct {
		Type asn1.ObjectIdentifier
		Rest asn1.RawValue
	}
	if _, err := x509.ParseCertificate(data); err == nil {
		return refuse("a certificate in DER", "openssl x509 -inform DER -in %s -out %s")
	}
	if _, err := asn1.UnmarshalWithParams(data, &pkcs7, ""); err == nil && pkcs7.Type.String() == "1.2.840.113549.1.7.2" {
		return refuse("a PKCS#7 container", "openssl pkcs7 -inform DER -print_certs -in %s -out %s")
	}
	if isDERKey(data) {
		return refuse("a private key in DER", "openssl pkey -inform DER -in %s -out %s")
	}
	if unmarshalPrefix(data, &pkcs12) && pkcs12.Version == 3 {
		return refuse("a PKCS#12 container (.pfx, .p12)", "openssl pkcs12 -nodes -in %s -out %s")
	}
	return refuse("binary, probably DER", "openssl x509 -inform DER -in %s -out %s")
}

func isDERKey(data []byte) bool {
	_, pkcs8 := x509.ParsePKCS8PrivateKey(data)
	_, pkcs1 := x509.ParsePKCS1PrivateKey(data)
	_, sec1 := x509.ParseECPrivateKey(data)
	return pkcs8 == nil || pkcs1 == nil || sec1 == nil
}

// unmarshalPrefix ignores further elements of the sequence.
func unmarshalPrefix(data []byte, into *struct {
	Version int
	Rest    asn1.RawValue
}) bool {
	var sequence asn1.RawValue
	if _, err := asn1.Unmarshal(data, &sequence); err != nil {
		return false
	}
	_, err := asn1.Unmarshal(sequence.Bytes, &into.Version)
	return err == nil
}

// curveOf returns the name of the elliptic curve of a key or certificate in DER if
// crypto/x509 does not support it, else "".
func curveOf(der []byte) string {
	switch {
	case bytes.Contains(der, []byte("\x06\x05\x2b\x81\x04\x00\x0a")):
		return "secp256k1"
	case bytes.Contains(der, []byte("\x06\x09\x2b\x24\x03\x03\x02\x08\x01\x01")):
		return "brainpool"
	}
	return ""
}

// checkCurve returns a FormatError for elliptic curves that neither this server nor browsers
// support.
func checkCurve(path string, data []byte) error {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		isKey, isCert := strings.HasSuffix(block.Type, "PRIVATE KEY"), block.Type == "CERTIFICATE"
		if curve := curveOf(block.Bytes); curve != "" && (isKey || isCert || block.Type == "EC PARAMETERS") {
			if _, err := x509.ParseCertificate(block.Bytes); isCert && err == nil {
				continue // another certificate's extension
			}
			return &FormatError{path, "for the elliptic curve " + curve + ", which browsers do not support",
				"create a key with: openssl ecparam -name prime256v1 -genkey -noout -out KEY; then request a certificate for it"}
		}
	}
	return nil
}
