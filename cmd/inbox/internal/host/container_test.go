package host

import (
	"os"
	"path/filepath"
	"testing"
)

func TestInContainerFromEnvironment(t *testing.T) {
	if !InContainer(func(name string) string { return map[string]string{"container": "podman"}[name] }) {
		t.Error("container=podman is not heard")
	}
}

func TestAnyExists(t *testing.T) {
	there := filepath.Join(t.TempDir(), "mark")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !anyExists(there+" of another", there) || anyExists(there+" of another") {
		t.Error("one file that is there tells, and none that is not")
	}
}
