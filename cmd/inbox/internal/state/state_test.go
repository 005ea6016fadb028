package state

import (
	"bytes"
	"os"
	"sync"
	"testing"
)

// TestSecretIsCreatedOnce checks that concurrent starts on one directory use one secret.
func TestSecretIsCreatedOnce(t *testing.T) {
	dir := t.TempDir()
	found := make([][]byte, 8)
	var all sync.WaitGroup
	for i := range found {
		all.Go(func() { found[i], _ = loadSecret(dir) })
	}
	all.Wait()
	for _, s := range found {
		if len(s) != secretSize || !bytes.Equal(s, found[0]) {
			t.Fatal("concurrent starts loaded different secrets")
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("got %d files in the directory, want 1", len(entries))
	}
}

func TestDerivedKeysDiffer(t *testing.T) {
	key := bytes.Repeat([]byte{1}, secretSize)
	payers, snapshots := DeriveKey(key, "payers"), DeriveKey(key, "snapshots")
	if bytes.Equal(payers, snapshots) || bytes.Equal(payers, key) || len(payers) != secretSize {
		t.Errorf("derived %x and %x from %x", payers, snapshots, key)
	}
}

func TestSecretInMemoryIsNew(t *testing.T) {
	a, err := loadSecret("")
	b, err2 := loadSecret("")
	if err != nil || err2 != nil || len(a) != secretSize || bytes.Equal(a, b) {
		t.Errorf("got secrets of %d and %d bytes, equal: %v; want two different ones", len(a), len(b), bytes.Equal(a, b))
	}
}
