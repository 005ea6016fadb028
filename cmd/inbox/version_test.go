package main

import (
	"regexp"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestReadBuild(t *testing.T) {
	clone := []debug.BuildSetting{
		{Key: "vcs.revision", Value: "758435bcc51b28f2a0ce4b5a06a7f9e3a4d1c0de"},
		{Key: "vcs.time", Value: "2026-11-22T16:30:29Z"},
		{Key: "vcs.modified", Value: "false"},
	}
	changed := append(clone[:2:2], debug.BuildSetting{Key: "vcs.modified", Value: "true"})
	tests := []struct {
		name, version string
		settings      []debug.BuildSetting
		want          buildInfo
	}{
		{"a tag in a clone", "v1.2.3", clone, buildInfo{"v1.2.3", "758435bcc51b", "2026-11-22T16:30:29Z"}},
		{"a clone with changes", "v1.2.3+dirty", changed, buildInfo{"v1.2.3+dirty", "758435bcc51b with changes", "2026-11-22T16:30:29Z"}},
		{"a tag, installed", "v1.2.3", nil, buildInfo{"v1.2.3", "unknown", "unknown time"}},
		{"a commit, installed", "v0.0.0-20261122163029-758435bcc51b", nil,
			buildInfo{"v0.0.0-20261122163029-758435bcc51b", "758435bcc51b", "2026-11-22T16:30:29Z"}},
		{"a commit after a tag, installed", "v1.2.4-0.20261122163029-758435bcc51b", nil,
			buildInfo{"v1.2.4-0.20261122163029-758435bcc51b", "758435bcc51b", "2026-11-22T16:30:29Z"}},
		{"no repository", "(devel)", nil, buildInfo{"(devel)", "unknown", "unknown time"}},
		{"nothing recorded", "", nil, buildInfo{"(unknown)", "unknown", "unknown time"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			info := &debug.BuildInfo{Main: debug.Module{Version: test.version}, Settings: test.settings}
			if got := readBuildInfo(info); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// TestVersionIsOneLine checks that the command and the option print the same line in a
// format that scripts can parse.
func TestVersionIsOneLine(t *testing.T) {
	line := regexp.MustCompile(`^inbox \S+ \(commit .+ of .+, ` + regexp.QuoteMeta(runtime.Version()+", "+runtime.GOOS+"/"+runtime.GOARCH) + `\)\n$`)
	for _, arg := range []string{"version", "-version"} {
		code, stdout, stderr := runOnce(t, nil, arg)
		if code != exitDone || stderr != "" || !line.MatchString(stdout) {
			t.Errorf("%s: %d, %q, %q; want 0 and one line like %s", arg, code, stdout, stderr, line)
		}
	}
}
