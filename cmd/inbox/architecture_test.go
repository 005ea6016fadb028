package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	repository   = "../.."
	architecture = "docs/architecture.md"
)

func readArchitecture(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, architecture))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	codeSpan  = regexp.MustCompile("`([^`]+)`")
	filePath  = regexp.MustCompile(`\b[\w-]+(?:/[\w.-]+)+\.(?:go|lua|js|md|yaml)\b`)
	pageLink  = regexp.MustCompile(`\]\(([\w.-]+)`)
	tableRule = regexp.MustCompile(`^\|(?: --- \|)+$`)
)

// codeSpans returns the texts between backticks.
func codeSpans(text string) (all []string) {
	for _, m := range codeSpan.FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// tableRow is a row of a table, by the titles of the columns.
type tableRow struct {
	line  int
	cells map[string]string
}

// tables returns the tables of a Markdown text.
func tables(text string) (all [][]tableRow) {
	lines := strings.Split(text, "\n")
	for i := 1; i < len(lines); i++ {
		if !tableRule.MatchString(lines[i]) {
			continue
		}
		titles := splitRow(lines[i-1])
		var rows []tableRow
		for i++; i < len(lines) && strings.HasPrefix(lines[i], "|"); i++ {
			row := tableRow{i + 1, map[string]string{}}
			for j, cell := range splitRow(lines[i]) {
				row.cells[titles[j]] = cell
			}
			rows = append(rows, row)
		}
		all = append(all, rows)
	}
	return all
}

func splitRow(line string) []string { return strings.Split(strings.Trim(line, "| "), " | ") }

// TestArchitecturePathsExist checks each file, link and package that the page names.
func TestArchitecturePathsExist(t *testing.T) {
	text := readArchitecture(t)
	paths := filePath.FindAllString(text, -1)
	for _, link := range pageLink.FindAllStringSubmatch(text, -1) {
		paths = append(paths, path.Join("docs", link[1]))
	}
	for _, tableFile := range tables(text) {
		for _, row := range tableFile {
			paths = append(paths, codeSpans(row.cells["file"])...)
		}
	}
	if len(paths) < 100 {
		t.Errorf("got %d paths, want at least 100", len(paths))
	}
	slices.Sort(paths)
	for _, p := range slices.Compact(paths) {
		if _, err := os.Stat(filepath.Join(repository, p)); err != nil {
			t.Errorf("%s names %s, which does not exist", architecture, p)
		}
	}
}

// TestArchitectureListsPackages checks that the diagram has every package.
func TestArchitectureListsPackages(t *testing.T) {
	_, section, _ := strings.Cut(readArchitecture(t), "## Packages")
	_, diagram, _ := strings.Cut(section, "```")
	diagram, _, _ = strings.Cut(diagram, "```")
	out, err := exec.Command("go", "list", "inbox/...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for pkg := range strings.FieldsSeq(string(out)) {
		word := regexp.MustCompile(`\b` + path.Base(pkg) + `\b`)
		if !strings.Contains(pkg, "/scripts/") && !word.MatchString(diagram) {
			t.Errorf("the diagram of %s lacks %s", architecture, pkg)
		}
	}
}

// TestArchitectureFunctionsExist checks that each name in a column "function" is
// declared in a file of the same row.
func TestArchitectureFunctionsExist(t *testing.T) {
	count := 0
	for _, table := range tables(readArchitecture(t)) {
		for _, row := range table {
			declared := map[string]bool{}
			for _, file := range codeSpans(row.cells["file"]) {
				for _, name := range declarations(t, file) {
					declared[name] = true
				}
			}
			for _, name := range codeSpans(row.cells["function"]) {
				if count++; !declared[name] {
					t.Errorf("%s:%d: %s is not declared in %s", architecture, row.line, name, row.cells["file"])
				}
			}
		}
	}
	if count < 60 {
		t.Errorf("got %d names, want at least 60", count)
	}
}

// declarations returns the names declared in a Go file, those of methods as
// Type.Method. Other files have none.
func declarations(t *testing.T, file string) (names []string) {
	t.Helper()
	if !strings.HasSuffix(file, ".go") {
		return nil
	}
	for _, decl := range parseFile(t, file).Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			names = append(names, functionName(d))
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					names = append(names, s.Name.Name)
				case *ast.ValueSpec:
					for _, name := range s.Names {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

func parseFile(t *testing.T, file string) *ast.File {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), filepath.Join(repository, file), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func functionName(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	receiver := d.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	if name, ok := receiver.(*ast.Ident); ok {
		return name.Name + "." + d.Name.Name
	}
	return d.Name.Name
}

// TestArchitectureHasTheOrderOfLayers compares the tables with a column "entry" with the
// lists in the code.
func TestArchitectureHasTheOrderOfLayers(t *testing.T) {
	const dir = "cmd/inbox/internal/server/"
	lists := [][]string{
		layers(t, dir+"listeners.go", "wrapListener"),
		layers(t, "cmd/inbox/internal/conn/server.go", "Server.routes"),
		layers(t, dir+"middleware.go", "stack.mainHandler"),
		layers(t, dir+"middleware.go", "stack.redirectHandler"),
	}
	i := 0
	for _, table := range tables(readArchitecture(t)) {
		if table[0].cells["entry"] == "" {
			continue
		}
		if i == len(lists) {
			t.Fatalf("%s:%d: more tables of layers than lists in the code", architecture, table[0].line)
		}
		if len(table) != len(lists[i]) {
			t.Errorf("%s:%d: got %d layers, want %d", architecture, table[0].line, len(table), len(lists[i]))
			table = table[:min(len(table), len(lists[i]))]
		}
		for j, row := range table {
			if entry := codeSpans(row.cells["entry"])[0]; !strings.Contains(lists[i][j], entry) {
				t.Errorf("%s:%d: the layer is %s, not %s", architecture, row.line, lists[i][j], entry)
			}
		}
		i++
	}
	if i != len(lists) {
		t.Errorf("got %d tables of layers, want %d", i, len(lists))
	}
}

// layers returns the source of the layers in the list of a function: the elements of a
// slice or map literal, or the arguments of chain after the first.
func layers(t *testing.T, file, function string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, file))
	if err != nil {
		t.Fatal(err)
	}
	var list []ast.Expr
	for _, decl := range parseFile(t, file).Decls {
		d, ok := decl.(*ast.FuncDecl)
		if !ok || functionName(d) != function {
			continue
		}
		ast.Inspect(d.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				_, isSlice := n.Type.(*ast.ArrayType)
				if _, isMap := n.Type.(*ast.MapType); (isSlice || isMap) && list == nil {
					list = n.Elts
				}
			case *ast.CallExpr:
				if name, ok := n.Fun.(*ast.Ident); ok && name.Name == "chain" {
					list = n.Args[1:]
				}
			}
			return list == nil
		})
	}
	if len(list) == 0 {
		t.Fatalf("%s has no list in %s", file, function)
	}
	for _, e := range list {
		all = append(all, string(text[e.Pos()-1:e.End()-1]))
	}
	return all
}
