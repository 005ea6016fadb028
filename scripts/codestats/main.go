// Command codestats reports the size of Go packages: lines, functions, types and
// the length of functions. Test files and generated files do not count.
//
//	go run ./scripts/codestats [DIR…]
//
// It prints one row per package and a total. A function's length is the number of
// lines from its func keyword to its closing brace.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
)

func main() {
	roots := os.Args[1:]
	if len(roots) == 0 {
		roots = []string{"."}
	}
	if err := report(os.Stdout, roots); err != nil {
		fmt.Fprintln(os.Stderr, "codestats:", err)
		os.Exit(1)
	}
}

// stats are the counts of one package.
type stats struct {
	files, lines, types int
	funcLengths         []int
}

func (s *stats) add(o *stats) {
	s.files, s.lines, s.types = s.files+o.files, s.lines+o.lines, s.types+o.types
	s.funcLengths = append(s.funcLengths, o.funcLengths...)
}

func report(w io.Writer, roots []string) error {
	packages := map[string]*stats{}
	for _, root := range roots {
		if err := filepath.WalkDir(root, collect(root, packages)); err != nil {
			return err
		}
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "files\tlines\tfuncs\tper 1000\ttypes\tper 1000\tmedian\tp90\tmax\t  package")
	var total stats
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		packages[name].write(table, name)
		total.add(packages[name])
	}
	total.write(table, "total")
	return table.Flush()
}

// collect adds each production file below root to the stats of its directory.
// Nested modules, test data and directories that begin with a dot are skipped.
func collect(root string, packages map[string]*stats) fs.WalkDirFunc {
	return func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return skipDir(root, path, d.Name())
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		s, err := measure(path)
		if err != nil || s == nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		if packages[dir] == nil {
			packages[dir] = &stats{}
		}
		packages[dir].add(s)
		return nil
	}
}

func skipDir(root, path, name string) error {
	if path == root {
		return nil
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	if err == nil || strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" {
		return fs.SkipDir
	}
	return nil
}

// measure returns the stats of one file, or nil for a generated one.
func measure(path string) (*stats, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	if ast.IsGenerated(file) {
		return nil, nil
	}
	s := &stats{files: 1, lines: strings.Count(string(source), "\n")}
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			s.funcLengths = append(s.funcLengths, files.Position(decl.End()).Line-files.Position(decl.Pos()).Line+1)
		case *ast.GenDecl:
			if decl.Tok == token.TYPE {
				s.types += len(decl.Specs)
			}
		}
	}
	return s, nil
}

func (s *stats) write(w io.Writer, name string) {
	slices.Sort(s.funcLengths)
	funcs := len(s.funcLengths)
	fmt.Fprintf(w, "%d\t%d\t%d\t%.1f\t%d\t%.1f\t%d\t%d\t%d\t  %s\n", s.files, s.lines,
		funcs, perThousand(funcs, s.lines), s.types, perThousand(s.types, s.lines),
		quantile(s.funcLengths, 0.5), quantile(s.funcLengths, 0.9), quantile(s.funcLengths, 1), name)
}

func perThousand(n, lines int) float64 { return 1000 * float64(n) / float64(max(lines, 1)) }

// quantile returns the value at the fraction q of the sorted values, the upper one
// between two; 0 when there are no values.
func quantile(sorted []int, q float64) int {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
