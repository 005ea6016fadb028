package host

import (
	"os"
	"path/filepath"
	"testing"
)

func TestInContainerFromEnvironment(t *testing.T) {
	if !InContainer(func(name string) string { return map[string]string{"container": "podman"}[name] }) {
		t.Error("container=podman was not detected")
	}
}

func TestAnyExists(t *testing.T) {
	present := filepath.Join(t.TempDir(), "mark")
	if err := os.WriteFile(present, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !anyExists(present+".missing", present) || anyExists(present+".missing") {
		t.Error("want true for one existing file, false for none")
	}
}
