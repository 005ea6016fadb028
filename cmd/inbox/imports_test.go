package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Only this command knows all packages; they do not know one another.
func TestPackagesDoNotImportOneAnother(t *testing.T) {
	apart := []string{"inbox/inbox", "inbox/ratelimit", "inbox/tlsmgr", "inbox/public"}
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}} {{join .TestImports " "}} {{join .XTestImports " "}}`, "inbox/...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg := fields[0]
		seen[pkg] = true
		if pkg == "inbox/cmd/inbox" {
			continue
		}
		for _, imported := range fields[1:] {
			switch {
			case imported == "inbox/cmd/inbox":
				t.Errorf("%s imports the command", pkg)
			case isApart(apart, pkg) && isApart(apart, imported) && root(pkg) != root(imported):
				t.Errorf("%s imports %s", pkg, imported)
			}
		}
	}
	for _, pkg := range []string{"inbox/inbox", "inbox/tlsmgr", "inbox/public", "inbox/cmd/inbox"} {
		if !seen[pkg] {
			t.Errorf("go list does not know %s", pkg)
		}
	}
}

// root is a package's first two path elements: inbox/inbox/storetest belongs to inbox/inbox.
func root(pkg string) string {
	parts := strings.Split(pkg, "/")
	return strings.Join(parts[:min(2, len(parts))], "/")
}

func isApart(apart []string, pkg string) bool { return slices.Contains(apart, root(pkg)) }
