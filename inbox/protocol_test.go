package inbox_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
	"inbox/inbox/ice"
	"inbox/inbox/memstore"
)

const protocolDocument = "../docs/protocol.md"

// TestProtocolDocument runs every exchange of docs/protocol.md: it sends each fenced
// block to a real handler as written and compares the answer. Time is fake, so a
// minute in the document takes no real time, and a block without took= must be
// answered at once.
func TestProtocolDocument(t *testing.T) {
	runProtocol(t, func(l inbox.Limits) inbox.Store { return memstore.New(l) })
}

func runProtocol(t *testing.T, engine func(inbox.Limits) inbox.Store) {
	text, err := os.ReadFile(protocolDocument)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := parseBlocks(string(text))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := newDocumentRunner(t, engine)
		for _, b := range blocks {
			if err := s.run(b); err != nil {
				t.Fatalf("docs/protocol.md:%d: %v", b.line, err)
			}
		}
		for label := range s.streams {
			t.Errorf("docs/protocol.md: the end of stream=%s is never shown", label)
		}
		for label := range s.sockets {
			t.Errorf("docs/protocol.md: the end of the WebSocket %s is never shown", label)
		}
		for label := range s.pending {
			t.Errorf("docs/protocol.md: the answer to pending=%s is never shown", label)
		}
		time.Sleep(time.Minute) // net/http lets connections linger, and a goroutine must not outlive the bubble
	})
}

// TestProtocolBlocksAreUnderstood checks that mistakes in the document are errors and
// not skipped.
func TestProtocolBlocksAreUnderstood(t *testing.T) {
	for name, text := range map[string]string{
		"no blocks":          "only prose\n",
		"another language":   "```json\n{}\n```\n",
		"no language":        "```\n> GET /inbox HTTP/1.1\n```\n",
		"unknown word":       "```http when=now\n> GET /inbox HTTP/1.1\n< HTTP/1.1 200 OK\n```\n",
		"unknown event":      "```http event=party\n> GET /inbox HTTP/1.1\n< HTTP/1.1 200 OK\n```\n",
		"unknown server":     "```http on=moon\n> GET /inbox HTTP/1.1\n< HTTP/1.1 200 OK\n```\n",
		"no such time":       "```http took=soon\n> GET /inbox HTTP/1.1\n< HTTP/1.1 200 OK\n```\n",
		"neither > nor <":    "```http\nGET /inbox HTTP/1.1\n```\n",
		"request after that": "```http\n> GET /a HTTP/1.1\n< HTTP/1.1 200 OK\n> GET /b HTTP/1.1\n```\n",
		"no answer":          "```http\n> GET /inbox HTTP/1.1\n```\n",
		"stream, no answer":  "```http stream=a\n> GET /inbox HTTP/1.1\n```\n",
		"no request":         "```http\n< HTTP/1.1 200 OK\n```\n",
		"never closed":       "```http\n> GET /inbox HTTP/1.1\n< HTTP/1.1 200 OK\n",
	} {
		if _, err := parseBlocks(text); err == nil {
			t.Errorf("%s: parsed, want an error", name)
		}
	}
}

// block is one fenced exchange, or half of it if the request waits.
type block struct {
	line               int
	on, pending, event string
	stream             string
	ends               bool // the stream ends
	isSocket           bool // the stream is a WebSocket
	later, took        time.Duration
	request, answer    []string
}

var events = map[string]func(*server){
	"stop":   func(s *server) { s.handler.EndPolls() },
	"revoke": func(s *server) { s.revoke() },
}

func parseBlocks(text string) (blocks []block, err error) {
	open := false
	for i, line := range strings.Split(text, "\n") {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && open:
			open = false
			err = blocks[len(blocks)-1].check()
		case fence:
			open = true
			blocks = append(blocks, block{line: i + 1})
			err = blocks[len(blocks)-1].parseInfo(info)
		case open:
			err = blocks[len(blocks)-1].parseLine(line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	if open || len(blocks) == 0 {
		return nil, fmt.Errorf("%d blocks, one still open: %t", len(blocks), open)
	}
	return blocks, nil
}

func (b *block) parseInfo(info string) (err error) {
	words := strings.Fields(info)
	if len(words) == 0 || words[0] != "http" && words[0] != "websocket" {
		return fmt.Errorf("a block of %q, want http or websocket", info)
	}
	b.isSocket = words[0] == "websocket"
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "on":
			b.on = value
		case "pending":
			b.pending = value
		case "event":
			b.event = value
		case "stream", "end":
			b.stream, b.ends = value, key == "end"
		case "later":
			b.later, err = time.ParseDuration(value)
		case "took":
			b.took, err = time.ParseDuration(value)
		default:
			err = fmt.Errorf("unknown word %q", word)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *block) parseLine(line string) error {
	mark, rest := line[:min(1, len(line))], strings.TrimPrefix(line[min(1, len(line)):], " ")
	switch {
	case mark == ">" && len(b.answer) == 0:
		b.request = append(b.request, rest)
	case mark == "<":
		b.answer = append(b.answer, rest)
	default:
		return fmt.Errorf("%q is neither a request line nor an answer line after the request", line)
	}
	return nil
}

func (b *block) check() error {
	_, knownServer := servers[b.on]
	_, knownEvent := events[b.event]
	switch {
	case !knownServer:
		return fmt.Errorf("unknown server %q", b.on)
	case b.event != "" && !knownEvent:
		return fmt.Errorf("unknown event %q", b.event)
	case b.isSocket && b.stream == "":
		return fmt.Errorf("want stream= or end= for a WebSocket")
	case b.isSocket && len(b.request)+len(b.answer) > 0:
	case b.stream != "" && b.pending == "" && len(b.answer) > 0:
	case b.pending == "" && (len(b.request) == 0 || len(b.answer) == 0):
		return fmt.Errorf("want a request and an answer")
	case b.pending != "" && (len(b.request) == 0) == (len(b.answer) == 0):
		return fmt.Errorf("pending=%s wants either a request or an answer", b.pending)
	}
	return nil
}

// servers are the configurations of the document's servers, by the name in on=. The
// empty name is the server with the defaults.
var servers = map[string]func(*inbox.Config, *inbox.Limits){
	"": func(*inbox.Config, *inbox.Limits) {},
	"small": func(c *inbox.Config, m *inbox.Limits) {
		c.MaxBodyBytes, m.Capacity, m.MaxInboxes = 20, 1, 2
	},
	"full": func(_ *inbox.Config, m *inbox.Limits) { m.MaxQueuedBytes = 1 },
	"shared": func(c *inbox.Config, m *inbox.Limits) {
		c.Payer = func(*http.Request) inbox.Payer { return inbox.Payer{Client: "one address"} }
		m.MaxInboxesPerPayer = 1
	},
	"cors": func(c *inbox.Config, _ *inbox.Limits) { c.AnyOrigin = true },
	"listed": func(c *inbox.Config, _ *inbox.Limits) {
		c.Origins = []string{"https://pages.example"}
	},
	"relay": func(c *inbox.Config, _ *inbox.Limits) {
		c.TURN = documentedTURN
		c.ICEServers = []ice.Server{{URLs: []string{"turn:turn.example:3478"}, Username: "guest", Credential: "visitor"}}
	},
	"private": func(c *inbox.Config, _ *inbox.Limits) { c.Access = &documentedAccess{} },
	"month": func(c *inbox.Config, _ *inbox.Limits) {
		c.TURN = func(r *http.Request, _ string) ([]ice.Server, string) {
			servers, _ := documentedTURN(r, "")
			return servers, "month-used"
		}
	},
}

// documentedTURN returns the servers of the document.
func documentedTURN(_ *http.Request, owner string) (servers []ice.Server, withheld string) {
	servers = []ice.Server{{URLs: []string{"stun:inbox.example:3478"}}}
	if owner == "" {
		return servers, ""
	}
	return append(servers, ice.Server{
		URLs:     []string{"turn:inbox.example:3478?transport=udp", "turns:inbox.example:443?transport=tcp"},
		Username: "AZnK", Credential: "c2VjcmV0",
	}), ""
}
