package machine

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPodmanIsToldByTheEnvironment(t *testing.T) {
	if !Contained(func(name string) string { return map[string]string{"container": "podman"}[name] }) {
		t.Error("container=podman is not heard")
	}
}

func TestDockerIsToldByItsFile(t *testing.T) {
	there := filepath.Join(t.TempDir(), "mark")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !anyOf(there+" of another", there) || anyOf(there+" of another") {
		t.Error("one file that is there tells, and none that is not")
	}
}
