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

func init() { openapi3filter.RegisterBodyDecoder("text/html", openapi3filter.PlainBodyDecoder) }

// document is an OpenAPI document with a record of what occurred in responses.
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

// roundTrip sends a request in the format of exchanges, validates it and its response
// against the document, and returns the operation and the status.
func (d *document) roundTrip(t *testing.T, server, text string) string {
	t.Helper()
	req, body, err := parseRequest(server, text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Errorf("%q: %v", text, err)
		return ""
	}
	defer resp.Body.Close()
	var respBody []byte
	if resp.StatusCode != http.StatusSwitchingProtocols {
		respBody, err = io.ReadAll(resp.Body)
	}
	if err != nil {
		t.Errorf("%q: %v", text, err)
	}
	req.Body = io.NopCloser(strings.NewReader(body))
	if err := d.check(req, resp, respBody); err != nil {
		t.Errorf("%q: got %s: %v", text, resp.Status, err)
	}
	return fmt.Sprintf("%s %s %d", req.Method, req.URL.Path, resp.StatusCode)
}

// parseRequest parses a request in the format of exchanges. With an explicit
// Content-Length its body never ends, as with a slow client.
func parseRequest(server, text string) (*http.Request, string, error) {
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	words := strings.Fields(lines[0])
	req, err := http.NewRequest(words[0], server+words[1], strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	if len(words) > 2 {
		name, password, _ := strings.Cut(words[2], ":")
		req.SetBasicAuth(name, password)
	}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	if length := req.Header.Get("Content-Length"); length != "" {
		req.ContentLength, err = strconv.ParseInt(length, 10, 64)
		rest, _ := io.Pipe() // never written to
		req.Body = io.NopCloser(io.MultiReader(strings.NewReader(body), rest))
	}
	return req, body, err
}

// check validates both request and response. Only a request that the server rejects can
// violate the document.
func (d *document) check(req *http.Request, resp *http.Response, body []byte) error {
	route, params, err := d.router.FindRoute(req)
	if err != nil {
		return err
	}
	options := &openapi3filter.Options{
		IncludeResponseStatus: true,
		ExcludeResponseBody:   req.Method == http.MethodHead || isMessage(resp),
		AuthenticationFunc:    openapi3filter.NoopAuthenticationFunc,
	}
	in := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route, Options: options}
	if err := openapi3filter.ValidateRequest(req.Context(), in); err != nil && resp.StatusCode < 400 {
		return err
	}
	if req.Method == http.MethodHead {
		// The library does not validate responses to HEAD. They differ only in the body.
		in.Request = req.Clone(req.Context())
		in.Request.Method = http.MethodGet
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: resp.StatusCode,
		Header: resp.Header, Body: io.NopCloser(bytes.NewReader(body)), Options: options}
	if err := openapi3filter.ValidateResponse(req.Context(), out); err != nil {
		return err
	}
	return d.checkUndocumented(route, resp, body)
}

// isMessage reports whether a response is a message, or a stream of them. The body of a message is
// arbitrary bytes, but the library would parse it according to its type.
func isMessage(resp *http.Response) bool {
	return resp.Header.Get("X-Message-Id") != "" || resp.Header.Get("Content-Type") == "text/event-stream"
}

// everywhere are the fields of HTTP and of the opening handshake, which OpenAPI documents leave out.
var everywhere = []string{"Date", "Content-Length", "Content-Type", "Connection", "Upgrade", "Sec-Websocket-Accept"}

// checkUndocumented rejects what the library accepts: header fields and bodies that the
// document does not contain.
func (d *document) checkUndocumented(route *routers.Route, resp *http.Response, body []byte) error {
	response := route.Operation.Responses.Status(resp.StatusCode).Value
	d.markSeen(fmt.Sprint(route.Method, " ", route.Path, " ", resp.StatusCode))
	known := headerNames(response)
	for name := range resp.Header {
		switch {
		case slices.Contains(known, name):
			d.markSeen(name)
		case !slices.Contains(everywhere, name):
			return fmt.Errorf("undocumented header field %s", name)
		}
	}
	kind := resp.Header.Get("Content-Type")
	if len(response.Content) == 0 && (len(body) > 0 || kind != "") {
		return fmt.Errorf("got a body of type %q, want none", kind)
	}
	if len(response.Content) > 0 && response.Content.Get(kind) == nil {
		return fmt.Errorf("undocumented content type %q", kind)
	}
	d.markSeen(kind)
	d.markSeen(string(problemType.Find(body)))
	return nil
}

func headerNames(response *openapi3.Response) (names []string) {
	for name := range response.Headers {
		names = append(names, http.CanonicalHeaderKey(name))
	}
	return names
}

var problemType = regexp.MustCompile(`urn:inbox:problem:[a-z-]+`)

func (d *document) markSeen(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[key] = true
}

func (d *document) operations() (all []string) {
	for path, item := range d.spec.Paths.Map() {
		for method := range item.Operations() {
			all = append(all, method+" "+path)
		}
	}
	return all
}

// notSeen lists what the document contains but no response had: statuses, header
// fields, content types of messages and problem types.
func (d *document) notSeen() (missing []string) {
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
		if kind != "text/plain" { // occurs with a charset
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

// checkOtherMethods validates the response to an undocumented method: its Allow field
// lists the documented methods except HEAD, which is rejected.
func (d *document) checkOtherMethods(server, path string) error {
	req, err := http.NewRequest(http.MethodPut, server+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var problem map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
		return err
	}
	d.markSeen(fmt.Sprint(problem["type"]))
	allowed := strings.Split(resp.Header.Get("Allow"), ", ")
	for _, method := range append(allowed, http.MethodHead) {
		if d.spec.Paths.Find(path).GetOperation(method) == nil {
			return fmt.Errorf("undocumented method %s in Allow", method)
		}
	}
	if want := len(d.spec.Paths.Find(path).Operations()) - 1; len(allowed) != want || resp.StatusCode != 405 {
		return fmt.Errorf("got %s with %d methods, want 405 with the %d documented ones", resp.Status, len(allowed), want)
	}
	return d.spec.Components.Schemas["Problem"].Value.VisitJSON(problem)
}
