package public

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"slices"
	"testing"
)

// TestClientModules checks that a page of any origin can import the client, also from a
// server that serves a directory.
func TestClientModules(t *testing.T) {
	dir := openDir(t, writeFiles(t, map[string]string{"index.html": "x", "client/1/peer.js": "own"}))
	for name, h := range map[string]http.Handler{"embedded": Embedded(Options{}), "directory": dir} {
		for _, module := range clientModules {
			answer := do(h, "GET", ClientPath+module)
			got, fields := bodyOf(t, answer), answer.Header
			if module == "peer.js" && name == "directory" {
				continue
			}
			wantStatus(t, answer, 200)
			if fields.Get("Access-Control-Allow-Origin") != "*" || fields.Get("Cross-Origin-Resource-Policy") != "cross-origin" || fields.Get("Cache-Control") != "no-cache" {
				t.Errorf("%s: %s: got %v, want a module for all origins that is revalidated", name, module, fields)
			}
			if got != string(loadEmbedded()[module].body) {
				t.Errorf("%s: %s: got %d bytes, want the embedded module", name, module, len(got))
			}
		}
		for _, path := range []string{"/client/1/", "/client/1", "/client/", "/client/2/inbox.js", "/client/1/page.js", "/client/1/../inbox.js", "/client/1/index.html"} {
			answer := do(h, "GET", path)
			if origin := answer.Header.Get("Access-Control-Allow-Origin"); answer.StatusCode == 200 || origin != "" {
				t.Errorf("%s: %s: got status %d and origin %q, want no file", name, path, answer.StatusCode, origin)
			}
		}
	}
	if got := bodyOf(t, do(dir, "GET", "/client/1/peer.js")); got != "own" {
		t.Errorf("got %q, want the file of the directory", got)
	}
	embedded := Embedded(Options{})
	etag := do(embedded, "GET", ClientPath+"inbox.js").Header.Get("Etag")
	wantStatus(t, do(embedded, "GET", ClientPath+"inbox.js", "If-None-Match", etag), 304)
}

// TestClientModulesAreComplete compares the modules with what the entry points of the npm
// package import.
func TestClientModulesAreComplete(t *testing.T) {
	text, err := os.ReadFile("npm/package.json")
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		Exports map[string]struct{ Default string }
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	reference := regexp.MustCompile(`(?m)^(?:import|export|\}) .*from '\./([\w-]+\.js)'|\bawait import\('\./([\w-]+\.js)'\)|= import\('\./([\w-]+\.js)'\)`)
	reached := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if _, ok := loadEmbedded()[name]; !ok || reached[name] {
			return // global.js is built from the others
		}
		reached[name] = true
		for _, match := range reference.FindAllSubmatch(loadEmbedded()[name].body, -1) {
			visit(string(slices.Concat(match[1:]...)))
		}
	}
	for _, export := range manifest.Exports {
		if export.Default != "" {
			visit(export.Default[len("./"):])
		}
	}
	for _, name := range clientModules {
		if !reached[name] {
			t.Errorf("%s: served, but no module of the client imports it", name)
		}
		delete(reached, name)
	}
	for name := range reached {
		t.Errorf("%s: imported, but not served: add it to clientModules", name)
	}
}
