package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestPackagesDoNotImportOneAnother checks that the libraries do not import one another,
// and that only the command imports its packages. Some of these are leaves, which import
// no library.
func TestPackagesDoNotImportOneAnother(t *testing.T) {
	libraries := []string{"inbox/inbox", "inbox/ratelimit", "inbox/tlsmgr", "inbox/turn", "inbox/public"}
	var leaves []string
	for _, name := range []string{"envfile", "host", "logging", "memory", "nearest", "sdnotify", "units"} {
		leaves = append(leaves, command+"/internal/"+name)
	}
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}} {{join .TestImports " "}} {{join .XTestImports " "}}`, "inbox/...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg := fields[0]
		seen[pkg] = true
		for _, imported := range fields[1:] {
			switch {
			case imported == command, isCommandPackage(imported) && !isCommandPackage(pkg):
				t.Errorf("%s imports %s of the command", pkg, imported)
			case isCommandPackage(pkg) && !slices.Contains(leaves, pkg):
			case isLibrary(libraries, imported) && (slices.Contains(leaves, pkg) || isLibrary(libraries, pkg) && library(pkg) != library(imported)):
				t.Errorf("%s imports %s", pkg, imported)
			}
		}
	}
	for _, pkg := range append(libraries, append(leaves, command)...) {
		if !seen[pkg] {
			t.Errorf("go list does not list %s", pkg)
		}
	}
}

const command = "inbox/cmd/inbox"

func isCommandPackage(pkg string) bool { return pkg == command || strings.HasPrefix(pkg, command+"/") }

// library returns the first two path elements: inbox/inbox/storetest belongs to inbox/inbox.
func library(pkg string) string {
	parts := strings.Split(pkg, "/")
	return strings.Join(parts[:min(2, len(parts))], "/")
}

func isLibrary(libraries []string, pkg string) bool { return slices.Contains(libraries, library(pkg)) }
