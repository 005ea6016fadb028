package inbox_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
)

// server is one handler behind an http.Server on pipes.
type server struct {
	handler *inbox.Handler
	revoke  func() // the invitations of a private server
	*pipeListener
}

func newServer(t *testing.T, engine func(inbox.Limits) inbox.Store, set func(*inbox.Config, *inbox.Limits)) *server {
	memory := inbox.Limits{Timeout: time.Minute, Capacity: 100}
	config := inbox.Config{
		Secret:       []byte("sixteen bytes or"),
		Path:         "/inbox",
		ICEPath:      "/ice",
		PollTimeout:  25 * time.Second,
		MaxBodyBytes: 1 << 20,
		// As the command says.
		CrossSiteDetail: "Its operator can allow them with -cors or -cors-origins.",
	}
	set(&config, &memory)
	config.Store = engine(memory)
	s := &server{pipeListener: &pipeListener{make(chan net.Conn), make(chan struct{})}}
	private, isPrivate := config.Access.(*documentedAccess)
	if isPrivate {
		private.open(t, config.Store)
	}
	s.handler = inbox.NewHandler(config)
	web := &http.Server{Handler: s.handler, ReadTimeout: 30 * time.Second}
	if isPrivate {
		web.Handler, s.revoke = private.handler(s.handler), private.revoke
	}
	go web.Serve(s)
	t.Cleanup(func() { web.Close() })
	return s
}

// pipeListener is a listener with in-memory connections: fake time advances only while
// goroutines wait on such connections.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeListener) Close() error   { close(p.closed); return nil }
func (p *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (p *pipeListener) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// documentRunner runs the document. It has the servers, the pending requests, and the values of
// the <placeholders> so far.
type documentRunner struct {
	servers map[string]*server
	pending map[string]chan reply
	streams map[string]*documentStream
	sockets map[string]*documentSocket
	values  map[string]string
}

func newDocumentRunner(t *testing.T, engine func(inbox.Limits) inbox.Store) *documentRunner {
	s := &documentRunner{map[string]*server{}, map[string]chan reply{}, map[string]*documentStream{}, map[string]*documentSocket{}, map[string]string{}}
	for name, set := range servers {
		s.servers[name] = newServer(t, engine, set)
	}
	return s
}

func (s *documentRunner) run(b block) error {
	time.Sleep(b.later)
	if b.event != "" {
		events[b.event](s.servers[b.on])
	}
	if b.isSocket {
		return s.runSocket(b)
	}
	if b.stream != "" {
		return s.runStream(b)
	}
	start := time.Now()
	got, err := s.exchange(b)
	if err != nil || b.answer == nil {
		return err
	}
	if d := time.Since(start); d != b.took {
		return fmt.Errorf("answered after %v, want %v", d, b.took)
	}
	return s.compare(got, b.answer)
}

// exchange sends the request of a block and returns the answer. A pending request has
// no answer yet; it must have arrived when the document shows it.
func (s *documentRunner) exchange(b block) (reply, error) {
	if b.request == nil {
		answers := s.pending[b.pending]
		delete(s.pending, b.pending)
		synctest.Wait()
		select {
		case got := <-answers:
			return got, got.err
		default:
			return reply{}, fmt.Errorf("pending=%s has no answer, or was never sent", b.pending)
		}
	}
	answers := make(chan reply, 1)
	go func() { answers <- roundTrip(s.servers[b.on].dial(), s.fill(b.request)) }()
	if b.pending == "" {
		got := <-answers
		return got, got.err
	}
	s.pending[b.pending] = answers
	synctest.Wait()
	if len(answers) > 0 {
		return reply{}, fmt.Errorf("pending=%s is answered at once", b.pending)
	}
	return reply{}, nil
}

// documentStream is a response that arrives in parts.
type documentStream struct {
	head    chan reply
	mu      sync.Mutex
	arrived strings.Builder
	ended   bool
}

// receive sends the request and collects the answer.
func (d *documentStream) receive(c net.Conn, lines []string) {
	defer c.Close()
	go c.Write(encodeRequest(lines))
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		d.head <- reply{err: fmt.Errorf("read the answer: %w", err)}
		return
	}
	d.head <- reply{answer.Proto + " " + answer.Status, answer.Header, "", nil}
	io.Copy(d, answer.Body)
	d.mu.Lock()
	d.ended = true
	d.mu.Unlock()
}

func (d *documentStream) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.arrived.Write(p)
}

// take returns what has arrived since the last call, and whether the stream has ended.
func (d *documentStream) take() (text string, ended bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.arrived.Reset()
	return d.arrived.String(), d.ended
}

// runStream runs a block of a stream.
func (s *documentRunner) runStream(b block) error {
	want := strings.Join(b.answer, "\n")
	var head reply
	if b.request != nil {
		d := &documentStream{head: make(chan reply, 1)}
		s.streams[b.stream] = d
		go d.receive(s.servers[b.on].dial(), s.fill(b.request))
		head = <-d.head
	}
	d := s.streams[b.stream]
	if d == nil || head.err != nil {
		return fmt.Errorf("stream=%s was not started, or failed: %v", b.stream, head.err)
	}
	synctest.Wait()
	got, ended := d.take()
	if ended {
		delete(s.streams, b.stream)
	}
	if ended != b.ends {
		return fmt.Errorf("got the end of the stream: %t, want %t, after %q", ended, b.ends, got)
	}
	got = strings.TrimSuffix(got, "\n")
	if b.request != nil {
		head.body = got
		return s.compare(head, b.answer)
	}
	return s.match(got, want)
}

var placeholder = regexp.MustCompile(`<[a-z-]+>`)

// fill replaces the placeholders in a request that have a value.
func (s *documentRunner) fill(lines []string) []string {
	text := strings.Join(lines, "\n")
	text = placeholder.ReplaceAllStringFunc(text, func(name string) string {
		if v, ok := s.values[name]; ok {
			return v
		}
		return name
	})
	return strings.Split(text, "\n")
}

// match compares one text of the answer. A new placeholder matches any number, or a guest pass,
// and the same from then on.
func (s *documentRunner) match(got, want string) error {
	pattern, names := "", []string{}
	for i, part := range placeholder.Split(want, -1) {
		if i > 0 {
			names = append(names, placeholder.FindAllString(want, -1)[i-1])
			if pattern += "([0-9]+)"; names[i-1] == "<guest-pass>" {
				pattern = strings.TrimSuffix(pattern, "([0-9]+)") + `(guest_[\w-]+)`
			}
		}
		pattern += regexp.QuoteMeta(part)
	}
	found := regexp.MustCompile("^" + pattern + "$").FindStringSubmatch(got)
	if found == nil {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	for i, name := range names {
		if v, ok := s.values[name]; ok && v != found[i+1] {
			return fmt.Errorf("got %q, want %q, where %s is %s", got, want, name, v)
		}
		s.values[name] = found[i+1]
	}
	return nil
}

// reply is the answer to one request.
type reply struct {
	status string
	header http.Header
	body   string
	err    error
}

// roundTrip sends the request as written, adds Host and Content-Length, and reads one
// answer.
func roundTrip(c net.Conn, lines []string) reply {
	defer c.Close()
	go c.Write(encodeRequest(lines))
	method, _, _ := strings.Cut(lines[0], " ")
	answer, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return reply{err: fmt.Errorf("read the answer: %w", err)}
	}
	body, err := io.ReadAll(answer.Body)
	return reply{answer.Proto + " " + answer.Status, answer.Header, string(body), err}
}

func encodeRequest(lines []string) []byte {
	head, body := splitBody(lines)
	lower := strings.ToLower(strings.Join(head, "\n"))
	if !strings.Contains(lower, "\nhost:") {
		head = append(head, "Host: inbox.example")
	}
	if body != "" && !strings.Contains(lower, "\ncontent-length:") {
		head = append(head, fmt.Sprint("Content-Length: ", len(body)))
	}
	return []byte(strings.Join(head, "\r\n") + "\r\n\r\n" + body)
}

func splitBody(lines []string) (head []string, body string) {
	for i, line := range lines {
		if line == "" {
			return lines[:i:i], strings.Join(lines[i+1:], "\n")
		}
	}
	return lines[:len(lines):len(lines)], ""
}

// compare compares an answer with the document: the status, each listed field, and
// the body, which must be empty if the document shows none.
func (s *documentRunner) compare(got reply, want []string) error {
	head, body := splitBody(want)
	if got.status != head[0] {
		return fmt.Errorf("got %s\n%s, want %s", got.status, got.body, head[0])
	}
	for _, line := range head[1:] {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			return fmt.Errorf("%q is not a header field", line)
		}
		if err := s.match(strings.Join(got.header.Values(name), ", "), value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if body != "" && strings.HasSuffix(got.header.Get("Content-Type"), "json") && !placeholder.MatchString(body) {
		return compareJSON(got.body, body)
	}
	return s.match(got.body, body)
}

// compareJSON compares two JSON documents, ignoring their layout.
func compareJSON(got, want string) error {
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		return fmt.Errorf("read the answer's body: %w", err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil || !reflect.DeepEqual(g, w) {
		var pretty bytes.Buffer
		_ = json.Indent(&pretty, []byte(got), "", "  ")
		return fmt.Errorf("got body\n%s\nwant\n%s", pretty.String(), want)
	}
	return nil
}
