// Package recipes runs the configurations of docs/recipes.md with the real programs. Each test
// has a machine of its own, so that ports and paths are those of the documentation.
//
// It requires root, ip(8), unshare(1) and nsenter(1).
package recipes

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"inbox/e2e"
	"inbox/e2e/netns"
)

const page = "../../docs/recipes.md"

// program is the path of the server's binary, network the machines of all tests, and testCA
// builds the test CA once.
var (
	program string
	network netns.Network
	testCA  func() (path string, err error)
)

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	if why := netns.Missing("unshare", "nsenter"); why != "" {
		if os.Getenv("CI") != "" {
			return 1, fmt.Errorf("recipes: %s", why)
		}
		fmt.Println("recipes: skipped:", why)
		return 0, nil
	}
	dir, err := os.MkdirTemp("", "inbox-recipes-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // for the user of the service
		return 1, err
	}
	if program, err = e2e.Build(context.Background(), dir); err != nil {
		return 1, err
	}
	testCA = sync.OnceValues(func() (string, error) {
		path := filepath.Join(dir, "testca")
		out, err := exec.Command("go", "build", "-o", path, "../testca").CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("build the test CA: %w\n%s", err, out)
		}
		return path, nil
	})
	if network, err = netns.New("inbox-recipes"); err != nil {
		return 1, err
	}
	defer func() {
		if removed := network.Remove(); err == nil && removed != nil {
			code, err = 1, removed
		}
	}()
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil { // most tests wait, whatever the number of processors
		return 1, err
	}
	return m.Run(), nil
}

// skipOrFail skips the test, or fails it in CI.
func skipOrFail(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// docBlock returns a block of a section of docs/recipes.md.
func docBlock(t *testing.T, section, after string) string {
	t.Helper()
	block, err := e2e.DocBlockIn(page, section, after)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// certificate creates a self-signed certificate of a proxy, and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{site}}
	template.Issuer.CommonName = "proxy"
	template.Subject.CommonName = "proxy"
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}
