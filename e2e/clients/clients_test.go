package clients

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"inbox/e2e"
)

var program string

func TestMain(m *testing.M) { e2e.Main(m, &program) }

// clientTimeout ends a client that hangs.
const clientTimeout = 3 * time.Minute

// table is what every client must get.
const table = `claim 204
wait 204
send 200
receive 200 hello
acknowledge 204
large 413 urn:inbox:problem:body-too-large
wrong 401 urn:inbox:problem:unauthorized
large-wrong 401 urn:inbox:problem:unauthorized
delete 204
`

// external are the clients that are programs in testdata: they get the address of the
// server, a name and an empty directory. requires is a command that fails if the client is not
// installed.
var external = []struct {
	name     string
	requires []string
	command  []string
	args     []string
	change   func(table string) string // what is different, or nil
}{
	{"curl", []string{"curl", "--version"}, []string{"sh", "curl.sh"}, nil, func(table string) string {
		const more = "large-expect 413 urn:inbox:problem:body-too-large\nlarge-chunked 413 urn:inbox:problem:body-too-large\nwrong "
		return strings.Replace(table, "wrong ", more, 1)
	}},
	// wget shows no body of a 401.
	{"wget", []string{"wget", "--version"}, []string{"sh", "wget.sh"}, nil, func(table string) string {
		return strings.ReplaceAll(table, " urn:inbox:problem:unauthorized", "")
	}},
	{"Python http.client", []string{"python3", "--version"}, []string{"python3", "http_client.py"}, nil, nil},
	{"Python requests", []string{"/usr/bin/python3", "-c", "import requests"}, []string{"/usr/bin/python3", "requests_client.py"}, nil, nil},
	{"Python aiohttp", []string{"/usr/bin/python3", "-c", "import aiohttp"}, []string{"/usr/bin/python3", "aiohttp_client.py"}, nil, nil},
	{"Node fetch", []string{"node", "-e", "fetch"}, []string{"node", "node.mjs"}, nil, nil},
	{"Java HttpClient", []string{"javac", "--version"}, []string{"java", "Client.java"}, nil, nil},
	{"Java HttpURLConnection", []string{"javac", "--version"}, []string{"java", "Client.java"}, []string{"url"}, nil},
}

// optional are clients without which the tests pass: a compiler is too large to install
// for them.
var optional = map[string]bool{"Java HttpClient": true, "Java HttpURLConnection": true}

// TestClients checks that each client can use the protocol, and reads why a body was
// refused that takes long to send.
func TestClients(t *testing.T) {
	server, err := e2e.Start(program, "-bind", "127.0.0.1:0", "-https=false", "-rate", "0", "-state", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	link, err := listenSlowLink(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	url := "http://" + link.Addr().String()
	t.Run("Go", func(t *testing.T) {
		c := &goClient{url: url, name: "go"}
		defer c.client.CloseIdleConnections()
		got, err := c.run()
		if err != nil || normalize(got) != table {
			t.Errorf("got\n%s%v\nwant\n%s", got, err, table)
		}
	})
	for i, client := range external {
		t.Run(client.name, func(t *testing.T) {
			if out, err := exec.Command(client.requires[0], client.requires[1:]...).CombinedOutput(); err != nil {
				if os.Getenv("CI") != "" && !optional[client.name] {
					t.Fatalf("missing: %v\n%s", err, out)
				}
				t.Skipf("missing: %s", client.name)
			}
			args := append(client.command[1:len(client.command):len(client.command)], url, fmt.Sprint("client", i), t.TempDir())
			got := run(t, client.command[0], append(args, client.args...))
			want := table
			if client.change != nil {
				want = client.change(table)
			}
			if got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// run returns what a client prints.
func run(t *testing.T, name string, args []string) string {
	ctx, cancel := context.WithTimeout(t.Context(), clientTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "testdata"
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "no_proxy=127.0.0.1")
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%v\n%s", err, &errors)
	}
	return normalize(string(out))
}

// normalize removes the space before an empty body.
func normalize(out string) string { return strings.ReplaceAll(out, " \n", "\n") }

// TestPriorKnowledge checks what curl shows when it uses HTTP/2 without TLS.
func TestPriorKnowledge(t *testing.T) {
	if out, err := exec.Command("curl", "--version").Output(); err != nil || !strings.Contains(string(out), "HTTP2") {
		t.Skip("missing: curl with HTTP/2")
	}
	server, err := e2e.Start(program, "-bind", "127.0.0.1:0", "-https=false", "-state", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	for _, options := range [][]string{{}, {"--data", "hello"}} {
		got := run(t, "curl", append(options, "-sS", "--http2-prior-knowledge", "-w", " %{http_code}", "http://"+server.Addr+"/inbox?to=bob"))
		if !strings.Contains(got, "urn:inbox:problem:http-version") || !strings.HasSuffix(got, " 505") {
			t.Errorf("got %q, want a problem document and 505", got)
		}
	}
}
