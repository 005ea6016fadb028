package packages

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// releaseFile matches the names and patterns of release files in documents.
	releaseFile = regexp.MustCompile(`\binbox[-_][\w.*~-]*\.(?:deb|rpm)\b|\binbox-(?:linux|darwin|windows)-\w+|\bsbom-[\w*-]+\.cdx\.json|\blicences-[\w*-]+\.txt`)
	link        = regexp.MustCompile(`\]\(([^)#\s]+)`)
)

// eachDocument calls check with each Markdown page below dir.
func eachDocument(t *testing.T, dir string, check func(path, text string)) {
	t.Helper()
	pages := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && d.Name() == "node_modules" {
			return fs.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err == nil {
			pages++
			check(path, string(text))
		}
		return err
	})
	if err != nil || pages < 20 {
		t.Errorf("got %d pages in %s (%v), want at least 20", pages, dir, err)
	}
}

// The documents name the files that scripts/package makes. Those of other platforms have the same
// names with another architecture.
func TestDocumentsNameFiles(t *testing.T) {
	dist := string(buildReleases(t).original)
	named := 0
	eachDocument(t, "../..", func(path, text string) {
		for _, name := range releaseFile.FindAllString(text, -1) {
			if strings.Contains(name, "-darwin-") || strings.Contains(name, "-windows-") || regexp.MustCompile(`arm|aarch64`).MatchString(name) {
				continue
			}
			named++
			if found, _ := filepath.Glob(filepath.Join(dist, name)); len(found) == 0 {
				t.Errorf("%s names %s, which scripts/package does not make", path, name)
			}
		}
	})
	if named < 5 {
		t.Errorf("got %d names, want at least 5", named)
	}
}

// The packages contain all documents that their pages link to.
func TestPackagedLinks(t *testing.T) {
	dir := t.TempDir()
	runCommand(t, "dpkg-deb", "-x", buildReleases(t).original.file(t, "*.deb"), dir)
	eachDocument(t, dir+"/usr/share/doc/inbox", func(path, text string) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], ":") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s, which the package lacks", strings.TrimPrefix(path, dir), m[1])
			}
		}
	})
}
