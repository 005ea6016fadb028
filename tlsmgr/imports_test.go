package tlsmgr

import (
	"os/exec"
	"strings"
	"testing"
)

// A program that only reloads certificate files does not build the ACME libraries.
func TestImportsNoACMELibrary(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "inbox/tlsmgr").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), "inbox/tlsmgr/acme/schedule\n") {
		t.Fatalf("go list does not list the packages of this module:\n%s", out)
	}
	for pkg := range strings.Lines(string(out)) {
		for _, library := range []string{"caddyserver/", "mholt/", "x/crypto/acme", "go.uber.org/zap", "tlsmgr/acme/certmagic", "tlsmgr/acme/autocert"} {
			if strings.Contains(pkg, library) {
				t.Errorf("tlsmgr imports %s", strings.TrimSpace(pkg))
			}
		}
	}
}
