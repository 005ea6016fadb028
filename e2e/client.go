// Package e2e tests the server from outside: it starts the real binary and acts as its
// peers. It is a module of its own, so that libraries used only by tests are not
// dependencies of the server.
//
// [Client] is a small client of the mailbox protocol. It does not retry, so that a test
// sees every failure.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// ErrSuperseded is returned by Receive when a newer receiver of the same name has
// superseded it. A client that polls again would supersede that one, endlessly.
var ErrSuperseded = errors.New("superseded by another receiver of this name")

// Client is one peer of a mailbox server. Its fields must be set before the first call.
// Send can then be called concurrently, Receive by one goroutine.
type Client struct {
	// Server is the base URL, such as https://inbox.example.
	Server         string
	Name, Password string
	HTTP           *http.Client

	// lastID is the ID of the last message received.
	lastID string
}

// Message is a message from another peer.
type Message struct {
	From string
	ID   string
	Type string
	Body []byte
}

// Send leaves a message for another peer. It waits up to wait, in whole seconds, for
// the recipient to claim its name.
func (c *Client) Send(ctx context.Context, to, contentType string, body []byte, wait time.Duration) error {
	query := url.Values{"to": {to}}
	if wait > 0 {
		query.Set("wait", strconv.Itoa(int(wait.Seconds())))
	}
	resp, _, err := c.do(ctx, http.MethodPost, query, contentType, body)
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("send: got %s, want 200", resp.Status)
	}
	return nil
}

// Receive returns the next message. The next call acknowledges it.
func (c *Client) Receive(ctx context.Context) (Message, error) {
	for {
		resp, body, err := c.do(ctx, http.MethodGet, url.Values{"after": {c.lastID}}, "", nil)
		if err != nil {
			return Message{}, fmt.Errorf("receive: %w", err)
		}
		switch {
		case resp.StatusCode == http.StatusOK:
			c.lastID = resp.Header.Get("X-Message-Id")
			from, err := url.PathUnescape(resp.Header.Get("X-From"))
			return Message{from, c.lastID, resp.Header.Get("Content-Type"), body}, err
		case resp.StatusCode != http.StatusNoContent:
			return Message{}, fmt.Errorf("receive: got %s, want 200 or 204", resp.Status)
		case resp.Header.Get("X-Poll-Ended") == "superseded":
			return Message{}, ErrSuperseded
		case resp.Header.Get("Retry-After") != "":
			return Message{}, errors.New("receive: the server is shutting down")
		}
	}
}

// Close deletes the mailbox.
func (c *Client) Close(ctx context.Context) error {
	resp, _, err := c.do(ctx, http.MethodDelete, nil, "", nil)
	if err != nil {
		return fmt.Errorf("delete mailbox: %w", err)
	}
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("delete mailbox: got %s, want 204", resp.Status)
	}
	return nil
}

func (c *Client) do(
	ctx context.Context, method string, query url.Values, contentType string, body []byte,
) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.Server+"/inbox?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.SetBasicAuth(c.Name, c.Password)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	respBody, err := io.ReadAll(resp.Body)
	return resp, respBody, err
}
