package attack

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"inbox/e2e/turnclient"
)

// turnCredentials are those of GET /ice, and the address of TURN over UDP. TURN over TLS has
// the address of HTTPS.
type turnCredentials struct{ username, password, udpAddr string }

// turnCredentials requests GET /ice as the owner of a mailbox.
func (s *scenario) turnCredentials(ctx context.Context, mailbox, from string) (c turnCredentials, err error) {
	r, err := http.NewRequestWithContext(ctx, "GET", s.url()+"/ice", nil)
	if err != nil {
		return c, err
	}
	r.SetBasicAuth(mailbox, "password of "+mailbox)
	client := s.http(from)
	defer client.CloseIdleConnections()
	resp, err := client.Do(r)
	if err != nil {
		return c, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return c, err
	}
	var body struct {
		ICEServers []struct {
			URLs                 []string
			Username, Credential string
		}
	}
	if err := json.Unmarshal(text, &body); err != nil {
		return c, fmt.Errorf("GET /ice: got status %d and %q: %w", resp.StatusCode, text, err)
	}
	for _, server := range body.ICEServers {
		for _, url := range server.URLs {
			if addr, ok := strings.CutPrefix(url, "turn:"); ok {
				addr, _, _ = strings.Cut(addr, "?")
				return turnCredentials{server.Username, server.Credential, addr}, nil
			}
		}
	}
	return c, fmt.Errorf("GET /ice: got status %d and %q, want a TURN server", resp.StatusCode, text)
}

// udp returns a client over UDP from a source address.
func (c turnCredentials) udp(from string) (*turnclient.Client, error) {
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial("udp", c.udpAddr)
	if err != nil {
		return nil, err
	}
	return turnclient.New(conn, c.username, c.password), nil
}

// turnTLS returns a client over TLS from a source address.
func (s *scenario) turnTLS(ctx context.Context, c turnCredentials, from string) (*turnclient.Client, error) {
	conn, err := s.dial(ctx, from)
	if err != nil {
		return nil, err
	}
	return turnclient.New(conn, c.username, c.password), nil
}

// allocateUDP returns a client over UDP with an allocation.
func (s *scenario) allocateUDP(ctx context.Context, mailbox, from string) (*turnclient.Client, error) {
	credentials, err := s.turnCredentials(ctx, mailbox, from)
	if err != nil {
		return nil, err
	}
	c, err := credentials.udp(from)
	if err != nil {
		return nil, err
	}
	return allocated(c)
}

// allocateTLS returns a client over TLS with an allocation.
func (s *scenario) allocateTLS(ctx context.Context, mailbox, from string) (*turnclient.Client, error) {
	credentials, err := s.turnCredentials(ctx, mailbox, from)
	if err != nil {
		return nil, err
	}
	c, err := s.turnTLS(ctx, credentials, from)
	if err != nil {
		return nil, err
	}
	return allocated(c)
}

func allocated(c *turnclient.Client) (*turnclient.Client, error) {
	if err := c.Allocate(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// turnChannel is the channel of a joined pair.
const turnChannel = 0x4000

// join lets two clients with allocations send to each other on turnChannel.
func join(a, b *turnclient.Client) error {
	if err := a.Bind(turnChannel, b.Relay); err != nil {
		return err
	}
	return b.Bind(turnChannel, a.Relay)
}
