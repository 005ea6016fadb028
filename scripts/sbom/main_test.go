package main

import (
	"bytes"
	"encoding/json"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	d := describe(&debug.BuildInfo{
		GoVersion: "go1.26.8",
		Main:      debug.Module{Path: "inbox", Version: "v1.2.3+dirty"},
		Deps: []*debug.Module{
			{Path: "example.org/a", Version: "v1.0.0", Sum: "h1:abc"},
			{Path: "example.org/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.org/c", Version: "v2.0.0"}},
		},
		Settings: []debug.BuildSetting{{Key: "vcs.time", Value: "2026-11-22T16:30:29Z"}},
	})
	if got, want := d.Metadata.Component.Package, "pkg:golang/inbox@v1.2.3%2Bdirty"; got != want {
		t.Errorf("the program is %s, want %s", got, want)
	}
	if d.Metadata.Timestamp != "2026-11-22T16:30:29Z" {
		t.Errorf("timestamp %q is not the commit's", d.Metadata.Timestamp)
	}
	want := []string{"pkg:golang/stdlib@1.26.8", "pkg:golang/example.org/a@v1.0.0", "pkg:golang/example.org/c@v2.0.0"}
	if got := d.Depends[0].On; strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("made of %v, want %v", got, want)
	}
	if len(d.Components) != len(want) || d.Components[1].Properties[0].Value != "h1:abc" {
		t.Errorf("components %+v", d.Components)
	}
}

// This test's own binary is one, too.
func TestRunReadsABinary(t *testing.T) {
	var first, second bytes.Buffer
	if err := run([]string{os.Args[0]}, &first); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{os.Args[0]}, &second); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same binary gave other bytes")
	}
	var d document
	if err := json.Unmarshal(first.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimPrefix(runtime.Version(), "go"); d.Components[0].Version != want {
		t.Errorf("standard library %q, want %q", d.Components[0].Version, want)
	}
}

func TestRunRefuses(t *testing.T) {
	for _, args := range [][]string{nil, {"a", "b"}, {"/dev/null"}, {"/nonexistent"}} {
		if err := run(args, new(bytes.Buffer)); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
