package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// callTimeout bounds a request beyond the time that it waits at the server.
	callTimeout = 10 * time.Second
	// pollWait exceeds the server's -poll-timeout, 25 seconds by default.
	pollWait = 60 * time.Second
	// sendWait is how long the server waits for a recipient that is absent.
	sendWait = 20 * time.Second
	// maxAnswer exceeds the server's -max-body-size.
	maxAnswer = 8 << 20
	maxPause  = 30 * time.Second
)

// ErrAbsent means that the recipient's name is not claimed: its program is not running.
var ErrAbsent = errors.New("the recipient is absent")

// Refused is a final answer: the server would refuse the same request again.
type Refused struct {
	Status int
	Type   string // "urn:inbox:problem:…", for programs
	Detail string // for people
}

func (r *Refused) Error() string { return fmt.Sprintf("%d %s: %s", r.Status, r.Type, r.Detail) }

// passing is a failure that can pass: an outage, a limit, or a restart of the server.
type passing struct {
	reason error
	after  time.Duration // of Retry-After, or zero
}

func (p *passing) Error() string { return p.reason.Error() }

// Mailbox is a mailbox of an inbox server. One goroutine can call Receive while others call the
// other methods.
type Mailbox struct {
	Server, Name, Password string
	http                   *http.Client
	device                 string // tells this program from others with the same name and password
}

// NewMailbox returns a mailbox, which the first request claims. The transport of client is used.
func NewMailbox(server, name, password string, transport http.RoundTripper) *Mailbox {
	// The server never redirects. A redirect would hand the password to another server.
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client := &http.Client{Transport: transport, CheckRedirect: noRedirect}
	return &Mailbox{strings.TrimSuffix(server, "/"), name, password, client, rand.Text()}
}

// Receive calls handle with each message until ctx ends, or until the server refuses: with a
// wrong password, or because another device receives now. It outlives outages and restarts.
//
// A message stays at the server until the next request acknowledges it, so that none is lost with
// an answer. A message can arrive twice.
func (m *Mailbox) Receive(ctx context.Context, handle func(from string, body []byte)) error {
	query := url.Values{"after": {""}, "client": {m.device}}
	for failures := 0; ; {
		header, body, err := m.do(ctx, "GET", "/inbox", query, nil, pollWait)
		query.Set("resume", "1") // from now on, do not take over from another device
		if err != nil {
			failures++
			if err := pause(ctx, err, failures); err != nil {
				return err
			}
			continue
		}
		failures = 0
		if id := header.Get("X-Message-Id"); id != "" {
			from, _ := url.PathUnescape(header.Get("X-From"))
			handle(from, body)
			query.Set("after", id)
		} // else 204: no message yet
	}
}

// Send stores a message in the mailbox of another name. It waits for an absent recipient and then
// returns ErrAbsent. It repeats the request during an outage, so the message can arrive twice.
func (m *Mailbox) Send(ctx context.Context, to string, message any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	query := url.Values{"to": {to}, "wait": {strconv.Itoa(int(sendWait.Seconds()))}}
	_, _, err = m.repeat(ctx, "POST", "/inbox", query, body)
	if refused := (*Refused)(nil); errors.As(err, &refused) && refused.Type == "urn:inbox:problem:no-inbox" {
		return ErrAbsent
	}
	return err
}

// Get decodes the JSON at a path, such as /ice.
func (m *Mailbox) Get(ctx context.Context, path string, value any) error {
	_, body, err := m.repeat(ctx, "GET", path, nil, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, value)
}

// Release gives the name back, with its messages and its relays, unless another device has it now.
func (m *Mailbox) Release(ctx context.Context) error {
	_, _, err := m.do(ctx, "DELETE", "/inbox", url.Values{"client": {m.device}}, nil, 0)
	return err
}

// repeat is do until the answer is final.
func (m *Mailbox) repeat(ctx context.Context, method, path string, query url.Values, body []byte) (http.Header, []byte, error) {
	for failures := 1; ; failures++ {
		header, answer, err := m.do(ctx, method, path, query, body, sendWait)
		if err == nil {
			return header, answer, nil
		}
		if err := pause(ctx, err, failures); err != nil {
			return nil, nil, err
		}
	}
}

// do makes one request. Its error is a *passing or a *Refused.
func (m *Mailbox) do(ctx context.Context, method, path string, query url.Values, body []byte, wait time.Duration) (http.Header, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+callTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, m.Server+path+"?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	request.SetBasicAuth(m.Name, m.Password)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := m.http.Do(request)
	if err != nil {
		return nil, nil, &passing{reason: err}
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, nil, &passing{reason: err}
	}
	return response.Header, answer, check(response, answer)
}

// check returns nil for the answers that the protocol has for success.
func check(response *http.Response, body []byte) error {
	header, status := response.Header, response.StatusCode
	seconds, _ := strconv.Atoi(header.Get("Retry-After"))
	after := time.Duration(seconds) * time.Second
	poll := response.Request.Method == "GET" && strings.HasSuffix(response.Request.URL.Path, "/inbox")
	switch {
	case header.Get("X-Poll-Ended") == "superseded":
		return &Refused{status, "superseded", "another program receives these messages now"}
	case status == 204 && after > 0:
		return &passing{errors.New("the server is restarting"), after}
	case status == 204, status == 200 && (!poll || header.Get("X-Message-Id") != ""):
		return nil
	}
	var problem struct{ Type, Detail string }
	if json.Unmarshal(body, &problem) != nil || !strings.HasPrefix(problem.Type, "urn:inbox:problem:") {
		return &passing{fmt.Errorf("status %d from another program, such as a proxy", status), after}
	}
	refused := &Refused{status, problem.Type, problem.Detail}
	if status == 408 || status == 429 || status >= 500 {
		return &passing{refused, after}
	}
	return refused
}

// pause waits after a failure: for Retry-After, or for a second, then two, up to half a minute. It
// returns err if it is final, and the error of ctx if that ends.
func pause(ctx context.Context, err error, failures int) error {
	p := (*passing)(nil)
	if !errors.As(err, &p) {
		return err
	}
	wait := p.after
	if wait == 0 {
		wait = min(time.Second<<min(failures-1, 5), maxPause)
		wait -= mathrand.N(wait / 2) // jitter, so that many clients do not return at once
	}
	if ctx.Err() == nil {
		log.Printf("%v; again in %v", err, wait.Round(time.Millisecond))
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
}
