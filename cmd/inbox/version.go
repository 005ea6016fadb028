package main

import (
	"cmp"
	"fmt"
	"regexp"
	"runtime"
	"runtime/debug"
)

// version describes this build in one line: version, commit and its time, Go
// and platform, as the Go command recorded them. What is not known is said so.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	b := readBuildInfo(info)
	return fmt.Sprintf("inbox %s (commit %s of %s, %s, %s/%s)", b.version, b.commit, b.date, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// buildInfo is where a binary comes from.
type buildInfo struct {
	version, commit, date string
}

// pseudoVersion matches what the Go command calls a commit without a tag of its
// own: its time and the beginning of its hash, the last parts of a version.
var pseudoVersion = regexp.MustCompile(`[-.](\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)-([0-9a-f]{12})(?:\+|$)`)

// readBuildInfo reads the repository's state, which only builds inside of a clone
// know, or else the version, which is all that a build of a fetched module knows.
func readBuildInfo(info *debug.BuildInfo) buildInfo {
	m := buildInfo{version: cmp.Or(info.Main.Version, "(unknown)")}
	changed := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			m.commit = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.time":
			m.date = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = " with changes"
		}
	}
	if v := pseudoVersion.FindStringSubmatch(m.version); v != nil && m.commit == "" {
		m.commit = v[7]
		m.date = fmt.Sprintf("%s-%s-%sT%s:%s:%sZ", v[1], v[2], v[3], v[4], v[5], v[6])
	}
	m.commit = cmp.Or(m.commit, "unknown") + changed
	m.date = cmp.Or(m.date, "unknown time")
	return m
}
