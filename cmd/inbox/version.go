package main

import (
	"cmp"
	"fmt"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
)

// version describes this build in one line: version, commit, commit time, Go version
// and platform, as recorded by the Go command. Missing values read "unknown".
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	b := readBuildInfo(info)
	return fmt.Sprintf("inbox %s (commit %s of %s, %s, %s/%s)", b.version, b.commit, b.date, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// buildVersion returns the version alone.
func buildVersion() string { return strings.Fields(version())[1] }

// buildInfo identifies the source of a binary.
type buildInfo struct {
	version, commit, date string
}

// pseudoVersion matches the last two parts of a Go pseudo-version, which names a commit
// without a tag: the commit time and the first 12 digits of the hash.
var pseudoVersion = regexp.MustCompile(`[-.](\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)-([0-9a-f]{12})(?:\+|$)`)

// readBuildInfo uses the VCS settings, which only a build inside a clone records. A build
// of a downloaded module records only the version, which can be a pseudo-version.
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
