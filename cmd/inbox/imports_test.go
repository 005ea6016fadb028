package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Only this command knows all packages; they do not know one another. Of the
// rooms below it the doctor knows certificates and the store that servers share,
// and the others none of them.
func TestPackagesDoNotImportOneAnother(t *testing.T) {
	libraries := []string{"inbox/inbox", "inbox/ratelimit", "inbox/tlsmgr", "inbox/public"}
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}} {{join .TestImports " "}} {{join .XTestImports " "}}`, "inbox/...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg := fields[0]
		seen[pkg] = true
		if pkg == command {
			continue
		}
		for _, imported := range fields[1:] {
			switch {
			case imported == command, isCommandPackage(imported) && !isCommandPackage(pkg):
				t.Errorf("%s imports %s of the command", pkg, imported)
			case pkg == command+"/doctor" && (imported == "inbox/tlsmgr" || imported == "inbox/tlsmgr/acme" || imported == "inbox/inbox/redisstore"):
			case (isLibrary(libraries, pkg) || isCommandPackage(pkg)) && isLibrary(libraries, imported) && modulePrefix(pkg) != modulePrefix(imported):
				t.Errorf("%s imports %s", pkg, imported)
			}
		}
	}
	for _, pkg := range append(libraries, command, command+"/doctor") {
		if !seen[pkg] {
			t.Errorf("go list does not know %s", pkg)
		}
	}
}

const command = "inbox/cmd/inbox"

// isCommandPackage is whether a package is a room of the command.
func isCommandPackage(pkg string) bool { return strings.HasPrefix(pkg, command+"/") }

// modulePrefix is a package's first two path elements: inbox/inbox/storetest belongs to inbox/inbox.
func modulePrefix(pkg string) string {
	parts := strings.Split(pkg, "/")
	return strings.Join(parts[:min(2, len(parts))], "/")
}

func isLibrary(libraries []string, pkg string) bool {
	return slices.Contains(libraries, modulePrefix(pkg))
}
