package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

// testChain is a leaf, its intermediate and its root.
type testChain struct {
	leaf, intermediate, root []byte // PEM
	key                      []byte
	private                  *ecdsa.PrivateKey
	caCert                   *x509.Certificate
	caKey                    *ecdsa.PrivateKey
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, public *ecdsa.PublicKey, by *ecdsa.PrivateKey) (*x509.Certificate, []byte) {
	t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func caTemplate(name string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
}

func leafTemplate(from, to time.Duration) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}, DNSNames: []string{"one.example"}, NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to)}
}

func newTestChain(t *testing.T) (c testChain) {
	t.Helper()
	rootKey := newKey(t)
	var root *x509.Certificate
	root, c.root = sign(t, caTemplate("root"), caTemplate("root"), &rootKey.PublicKey, rootKey)
	c.caKey = newKey(t)
	c.caCert, c.intermediate = sign(t, caTemplate("intermediate"), root, &c.caKey.PublicKey, rootKey)
	c.private = newKey(t)
	_, c.leaf = sign(t, leafTemplate(-time.Hour, time.Hour), c.caCert, &c.private.PublicKey, c.caKey)
	der, err := x509.MarshalECPrivateKey(c.private)
	if err != nil {
		t.Fatal(err)
	}
	c.key = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	return c
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// A chain in any order is sorted; of several certificates for the key, the valid one
// counts.
func TestChainIsSorted(t *testing.T) {
	c := newTestChain(t)
	_, expired := sign(t, leafTemplate(-3*time.Hour, -2*time.Hour), c.caCert, &c.private.PublicKey, c.caKey)
	_, early := sign(t, leafTemplate(2*time.Hour, 3*time.Hour), c.caCert, &c.private.PublicKey, c.caKey)
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07")})
	for what, chain := range map[string][]byte{
		"sorted":               join(c.leaf, c.intermediate, c.root),
		"intermediate first":   join(c.intermediate, c.leaf, c.root),
		"root first":           join(c.root, c.intermediate, c.leaf),
		"twice":                join(c.leaf, c.intermediate, c.leaf, c.intermediate, c.root),
		"expired first":        join(expired, c.leaf, c.intermediate, c.root),
		"not yet valid last":   join(c.leaf, c.intermediate, c.root, early),
		"with the key":         join(c.key, c.intermediate, c.leaf, c.root),
		"with text in between": join([]byte("subject=leaf\n"), c.leaf, []byte("issuer\n"), c.intermediate, c.root),
	} {
		cert, err := Parse(chain, join(parameters, c.key))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		var got []byte
		for _, der := range cert.Certificate {
			got = append(got, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		if want := join(c.leaf, c.intermediate, c.root); !bytes.Equal(got, want) {
			t.Errorf("%s: got %d certificates of leaf %v, want leaf, intermediate and root", what, len(cert.Certificate), cert.Leaf.NotAfter)
		}
	}
	if _, err := Parse(join(c.intermediate, c.root), c.key); err == nil || !strings.Contains(err.Error(), "does not match") {
		t.Errorf("without the leaf: got %v", err)
	}
}

func utf16File(text []byte, bom bool) []byte {
	var all []byte
	if bom {
		all = append(all, 0xff, 0xfe)
	}
	for _, unit := range utf16.Encode([]rune(string(text))) {
		all = append(all, byte(unit), byte(unit>>8))
	}
	return all
}

// The error for a file in another format names the format and a command that converts it.
func TestFormats(t *testing.T) {
	c := newTestChain(t)
	block, _ := pem.Decode(c.leaf)
	keyBlock, _ := pem.Decode(c.key)
	good, goodKey := join(c.leaf, c.intermediate), c.key
	locked := join(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 1, 0}}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte("x")}))
	for _, tt := range []struct {
		name       string
		chain, key []byte
		want       string // "": accepted
	}{
		{"good", good, goodKey, ""},
		{"byte order mark", join(utf8BOM, good), join(utf8BOM, goodKey), ""},
		{"carriage returns", bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), goodKey, ""},
		{"UTF-16", utf16File(good, true), goodKey, "UTF-16 text; convert it with: iconv -f UTF-16 -t UTF-8"},
		{"UTF-16 without mark", utf16File(good, false), goodKey, "iconv -f UTF-16LE -t UTF-8"},
		{"UTF-16 key", good, utf16File(goodKey, true), "UTF-16 text"},
		{"DER", block.Bytes, goodKey, "openssl x509 -inform DER -in"},
		{"DER key", good, keyBlock.Bytes, "openssl pkey -inform DER -in"},
		{"empty", nil, goodKey, "is empty"},
		{"locked EC key behind its parameters", good, locked, "passphrase"},
		{"request", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte("x")}), goodKey, "certificate request"},
		{"PKCS#7", pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: []byte("x")}), goodKey, "openssl pkcs7 -print_certs"},
		{"OpenSSH key", good, pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: []byte("x")}), "ssh-keygen -p"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			certFile, keyFile := writeFile(t, dir, "server.crt", tt.chain), writeFile(t, dir, "server.key", tt.key)
			wantError(t, certFile, keyFile, tt.want)
		})
	}
	t.Run("folder", func(t *testing.T) {
		dir := t.TempDir()
		wantError(t, dir, writeFile(t, dir, "server.key", c.key), "a folder; give the file in it")
	})
}

func writeFile(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func wantError(t *testing.T, certFile, keyFile, want string) {
	t.Helper()
	_, err := Load(certFile, keyFile)
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// The error names the other formats of OpenSSL, and curves that Go does not support.
func TestFormatsOfOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("needs openssl")
	}
	dir := t.TempDir()
	c := newTestChain(t)
	good, goodKey := writeFile(t, dir, "good.crt", c.leaf), writeFile(t, dir, "good.key", c.key)
	for _, tt := range []struct{ name, script, want string }{
		{"PKCS#12", "openssl pkcs12 -export -in good.crt -inkey good.key -passout pass:x -out out.crt && cp good.key out.key", "openssl pkcs12 -nodes -in"},
		{"PKCS#12 as key", "openssl pkcs12 -export -in good.crt -inkey good.key -passout pass:x -out out.key && cp good.crt out.crt", "openssl pkcs12 -nodes -in"},
		{"PKCS#7 in DER", "openssl crl2pkcs7 -nocrl -certfile good.crt -outform DER -out out.crt && cp good.key out.key", "openssl pkcs7 -inform DER"},
		{"secp256k1", "openssl ecparam -name secp256k1 -genkey -out out.key && openssl req -x509 -key out.key -subj /CN=x -out out.crt", "secp256k1"},
		{"brainpool", "openssl ecparam -name brainpoolP256r1 -genkey -out out.key && openssl req -x509 -key out.key -subj /CN=x -out out.crt", "brainpool"},
		{"locked", "openssl ec -in good.key -aes256 -passout pass:x -out out.key && cp good.crt out.crt", "passphrase"},
		{"locked PKCS#8", "openssl pkcs8 -topk8 -in good.key -passout pass:x -out out.key && cp good.crt out.crt", "passphrase"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run := exec.Command("sh", "-c", tt.script)
			run.Dir = dir
			if out, err := run.CombinedOutput(); err != nil {
				t.Skipf("openssl: %v\n%s", err, out)
			}
			wantError(t, filepath.Join(dir, "out.crt"), filepath.Join(dir, "out.key"), tt.want)
		})
	}
	wantError(t, good, goodKey, "")
}

func TestLacksIntermediate(t *testing.T) {
	c := newTestChain(t)
	public := leafTemplate(-time.Hour, time.Hour)
	public.IssuingCertificateURL = []string{"http://ca.example/intermediate.crt"}
	_, leaf := sign(t, public, c.caCert, &c.private.PublicKey, c.caKey)
	for _, tt := range []struct {
		name  string
		chain []byte
		want  bool
	}{{"public CA, leaf alone", leaf, true}, {"public CA, full chain", join(leaf, c.intermediate), false}, {"private CA", c.leaf, false}} {
		cert, err := Parse(tt.chain, c.key)
		if err != nil {
			t.Fatal(err)
		}
		if got := LacksIntermediate(cert); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// No file content causes a panic.
func FuzzParse(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"), []byte("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte{0x30, 0x03, 0x02, 0x01, 0x03}, []byte{0xff, 0xfe})
	f.Fuzz(func(t *testing.T, chain, key []byte) {
		var format *FormatError
		if err := checkFormat("file", chain); err != nil && !errors.As(err, &format) {
			t.Errorf("got %T", err)
		}
		_ = checkCurve("file", key)
		if cert, err := Parse(chain, key); err == nil && (cert.Leaf == nil || len(cert.Certificate) == 0) {
			t.Error("a pair without a leaf")
		}
	})
}
