package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// document is an OpenAPI document and the parts of it that occurred in answers.
type document struct {
	spec   *openapi3.T
	router routers.Router

	mu   sync.Mutex
	seen map[string]bool
}

func loadDocument(t *testing.T, file string) *document {
	t.Helper()
	spec, err := openapi3.NewLoader().LoadFromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Validate(context.Background()); err != nil {
		t.Fatalf("%s is not valid: %v", file, err)
	}
	router, err := gorillamux.NewRouter(spec)
	if err != nil {
		t.Fatal(err)
	}
	return &document{spec: spec, router: router, seen: map[string]bool{}}
}

// messageTypes returns the content types that a message can have.
func messageTypes(spec *openapi3.T) []string {
	return slices.Collect(maps.Keys(spec.Paths.Find("/inbox").Get.Responses.Status(200).Value.Content))
}

// ask sends a request in the notation of exchange, checks it and its answer against
// the document, and returns the operation and the status.
func (d *document) ask(t *testing.T, server, text string) string {
	t.Helper()
	ask, body, err := parseAsk(server, text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	answer, err := http.DefaultTransport.RoundTrip(ask)
	if err != nil {
		t.Errorf("%q: %v", text, err)
		return ""
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Errorf("%q: %v", text, err)
	}
	ask.Body = io.NopCloser(strings.NewReader(body))
	if err := d.check(ask, answer, got); err != nil {
		t.Errorf("%q got %s: %v", text, answer.Status, err)
	}
	return fmt.Sprintf("%s %s %d", ask.Method, ask.URL.Path, answer.StatusCode)
}

// parseAsk parses a request. With an explicit Content-Length its body stays
// incomplete, like that of a slow client.
func parseAsk(server, text string) (*http.Request, string, error) {
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	words := strings.Fields(lines[0])
	ask, err := http.NewRequest(words[0], server+words[1], strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	if len(words) > 2 {
		name, password, _ := strings.Cut(words[2], ":")
		ask.SetBasicAuth(name, password)
	}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		ask.Header.Set(name, value)
	}
	if length := ask.Header.Get("Content-Length"); length != "" {
		ask.ContentLength, err = strconv.ParseInt(length, 10, 64)
		rest, _ := io.Pipe() // never written to
		ask.Body = io.NopCloser(io.MultiReader(strings.NewReader(body), rest))
	}
	return ask, body, err
}

// check finds the operation and checks request and answer against it. Only a request
// that the server refuses can violate the document.
func (d *document) check(ask *http.Request, answer *http.Response, body []byte) error {
	route, params, err := d.router.FindRoute(ask)
	if err != nil {
		return err
	}
	options := &openapi3filter.Options{
		IncludeResponseStatus: true,
		ExcludeResponseBody:   ask.Method == http.MethodHead || isMessage(answer),
		AuthenticationFunc:    openapi3filter.NoopAuthenticationFunc,
	}
	in := &openapi3filter.RequestValidationInput{Request: ask, PathParams: params, Route: route, Options: options}
	if err := openapi3filter.ValidateRequest(ask.Context(), in); err != nil && answer.StatusCode < 400 {
		return err
	}
	if ask.Method == http.MethodHead {
		// The library skips answers to HEAD. They differ from GET only in the body.
		in.Request = ask.Clone(ask.Context())
		in.Request.Method = http.MethodGet
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: answer.StatusCode,
		Header: answer.Header, Body: io.NopCloser(bytes.NewReader(body)), Options: options}
	if err := openapi3filter.ValidateResponse(ask.Context(), out); err != nil {
		return err
	}
	return d.checkStrictly(route, answer, body)
}

// isMessage reports whether the body of an answer is a message: arbitrary bytes,
// regardless of the content type. The library would parse JSON.
func isMessage(answer *http.Response) bool { return answer.Header.Get("X-Message-Id") != "" }

// checkStrictly reports what the library accepts: header fields and bodies that are
// not in the document.
func (d *document) checkStrictly(route *routers.Route, answer *http.Response, body []byte) error {
	response := route.Operation.Responses.Status(answer.StatusCode).Value
	d.see(fmt.Sprint(route.Method, " ", route.Path, " ", answer.StatusCode))
	known := headerNames(response)
	for name := range answer.Header {
		switch {
		case slices.Contains(known, name):
			d.see(name)
		case name != "Date" && name != "Content-Length" && name != "Content-Type" && name != "Connection":
			return fmt.Errorf("the field %s is not in the document", name)
		}
	}
	kind := answer.Header.Get("Content-Type")
	if len(response.Content) == 0 && (len(body) > 0 || kind != "") {
		return fmt.Errorf("a body of type %q, want none", kind)
	}
	if len(response.Content) > 0 && response.Content.Get(kind) == nil {
		return fmt.Errorf("the content type %q is not in the document", kind)
	}
	d.see(kind)
	d.see(string(problemType.Find(body)))
	return nil
}

func headerNames(response *openapi3.Response) (names []string) {
	for name := range response.Headers {
		names = append(names, http.CanonicalHeaderKey(name))
	}
	return names
}

var problemType = regexp.MustCompile(`urn:inbox:problem:[a-z-]+`)

func (d *document) see(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[what] = true
}

func (d *document) operations() (all []string) {
	for path, item := range d.spec.Paths.Map() {
		for method := range item.Operations() {
			all = append(all, method+" "+path)
		}
	}
	return all
}

// notReached lists the parts of the document that occurred in no answer: statuses,
// header fields, content types of messages and types of problems.
func (d *document) notReached() (missing []string) {
	var all []string
	for path, item := range d.spec.Paths.Map() {
		for method, operation := range item.Operations() {
			for status, response := range operation.Responses.Map() {
				all = append(all, method+" "+path+" "+status)
				all = append(all, headerNames(response.Value)...)
			}
		}
	}
	for _, kind := range d.spec.Components.Schemas["Problem"].Value.Properties["type"].Value.Enum {
		all = append(all, kind.(string))
	}
	for _, kind := range messageTypes(d.spec) {
		if kind != "text/plain" { // it occurs with a charset
			all = append(all, kind)
		}
	}
	slices.Sort(all)
	for _, what := range slices.Compact(all) {
		if !d.seen[what] {
			missing = append(missing, what)
		}
	}
	return missing
}

// checkOtherMethods checks the answer to an undocumented method: its Allow field
// lists the documented methods, except HEAD, which is refused.
func (d *document) checkOtherMethods(server, path string) error {
	ask, err := http.NewRequest(http.MethodPut, server+path, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultTransport.RoundTrip(ask)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var problem map[string]any
	if err := json.NewDecoder(answer.Body).Decode(&problem); err != nil {
		return err
	}
	d.see(fmt.Sprint(problem["type"]))
	allowed := strings.Split(answer.Header.Get("Allow"), ", ")
	for _, method := range append(allowed, http.MethodHead) {
		if d.spec.Paths.Find(path).GetOperation(method) == nil {
			return fmt.Errorf("%s is allowed, but not in the document", method)
		}
	}
	if want := len(d.spec.Paths.Find(path).Operations()) - 1; len(allowed) != want || answer.StatusCode != 405 {
		return fmt.Errorf("got %s and %d methods, want 405 and the %d of the document", answer.Status, len(allowed), want)
	}
	return d.spec.Components.Schemas["Problem"].Value.VisitJSON(problem)
}
