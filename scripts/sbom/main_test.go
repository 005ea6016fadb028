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
		t.Errorf("got purl %s, want %s", got, want)
	}
	if d.Metadata.Timestamp != "2026-11-22T16:30:29Z" {
		t.Errorf("got timestamp %q, want that of the commit", d.Metadata.Timestamp)
	}
	want := []string{"pkg:golang/stdlib@1.26.8", "pkg:golang/example.org/a@v1.0.0", "pkg:golang/example.org/c@v2.0.0"}
	if got := d.Depends[0].On; strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got dependencies %v, want %v", got, want)
	}
	if len(d.Components) != len(want) || d.Components[1].Properties[0].Value != "h1:abc" {
		t.Errorf("got components %+v, want %d with the checksum of the first module", d.Components, len(want))
	}
}

// The test binary serves as input.
func TestRunReadsBinary(t *testing.T) {
	var first, second bytes.Buffer
	if err := run([]string{os.Args[0]}, &first); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{os.Args[0]}, &second); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("got different output for the same binary, want it identical")
	}
	var d document
	if err := json.Unmarshal(first.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimPrefix(runtime.Version(), "go"); d.Components[0].Version != want {
		t.Errorf("got standard library %q, want %q", d.Components[0].Version, want)
	}
}

func TestRunReturnsErrors(t *testing.T) {
	for _, args := range [][]string{nil, {"a", "b"}, {"/dev/null"}, {"/nonexistent"}} {
		if err := run(args, new(bytes.Buffer)); err == nil {
			t.Errorf("%q: got no error, want one", args)
		}
	}
}
