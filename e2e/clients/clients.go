// Package clients runs the protocol with the HTTP clients that programs use, each with its
// own idea of when to send a body and when to read the response.
package clients

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
)

// largeBytes is the size of a body that the server refuses. The programs in testdata use
// the same.
const largeBytes = 8 << 20

var problemType = regexp.MustCompile(`urn:inbox:problem:[a-z-]+`)

// goClient makes the exchanges of the table with net/http.
type goClient struct {
	url, name string
	client    http.Client
}

// run returns a line for each exchange: step, status, and body or type of problem.
func (c *goClient) run() (string, error) {
	var out strings.Builder
	id := ""
	for _, step := range []struct{ name, method, target, password, body string }{
		{"claim", "GET", "/inbox?wait=0", "rabbit", ""},
		{"wait", "GET", "/inbox?wait=1", "rabbit", ""},
		{"send", "POST", "/inbox?to=" + c.name, "rabbit", "hello"},
		{"receive", "GET", "/inbox?after=", "rabbit", ""},
		{"acknowledge", "GET", "/inbox?wait=0&after=", "rabbit", ""},
		{"large", "POST", "/inbox?to=" + c.name, "rabbit", strings.Repeat("\x00", largeBytes)},
		{"wrong", "GET", "/inbox?wait=0", "wrong", ""},
		{"large-wrong", "POST", "/inbox?to=" + c.name, "wrong", strings.Repeat("\x00", largeBytes)},
		{"delete", "DELETE", "/inbox", "rabbit", ""},
	} {
		if step.name == "acknowledge" {
			step.target += id
		}
		resp, text, err := c.do(step.method, step.target, step.password, step.body)
		if err != nil {
			return out.String(), fmt.Errorf("%s: %w", step.name, err)
		}
		id = resp.Header.Get("X-Message-Id")
		if problem := problemType.FindString(text); problem != "" {
			text = problem
		}
		fmt.Fprintf(&out, "%s %d %s\n", step.name, resp.StatusCode, text)
	}
	return out.String(), nil
}

func (c *goClient) do(method, target, password, body string) (*http.Response, string, error) {
	r, err := http.NewRequest(method, c.url+target, strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	r.SetBasicAuth(c.name, password)
	resp, err := c.client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}
