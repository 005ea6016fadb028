package turn

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"inbox/e2e"
)

// site is the network, the program, and what its hosts share.
type site struct {
	network
	certificates
	program, dir string
}

// server is a running server on a host, with a state directory that outlives it.
type server struct {
	*e2e.Server
	site  *site
	host  string
	state string
	args  []string

	mu  sync.Mutex
	log []string // the last lines
}

// newServer prepares a server with the certificate of the test. It is not started.
func (s *site) newServer(host string, args ...string) *server {
	state := filepath.Join(s.dir, "state-"+host)
	args = append([]string{
		"-bind", ":443", "-server-cert", s.chain, "-server-key", s.key, "-state", state, "-public", "",
	}, args...)
	return &server{site: s, host: host, state: state, args: args}
}

func (s *server) start() (err error) {
	c := s.site.Command(s.host, s.site.program, s.args...)
	c.Dir = s.site.dir
	s.Server, err = e2e.StartWith(c, s.readLine)
	return err
}

const keptLines = 200

func (s *server) readLine(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, line)
	s.log = s.log[max(0, len(s.log)-keptLines):]
}

func (s *server) lastLog() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.log, "\n")
}

// httpClient returns a client on a host, for the names of the server.
func (s *site) httpClient(from string) *http.Client {
	dial := func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		name, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		err = s.Do(from, func() error {
			d := net.Dialer{Timeout: 20 * time.Second}
			c, err = d.DialContext(ctx, network, net.JoinHostPort(addrs[name][0], port))
			return err
		})
		return c, err
	}
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DialContext: dial, TLSClientConfig: s.clientConfig(), DisableKeepAlives: true,
	}}
}

// iceServer is an entry of the response to GET /ice.
type iceServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username"`
	Credential string   `json:"credential"`
}

// fetchICE requests GET /ice with the credentials of a mailbox.
func (s *site) fetchICE(from, name, mailbox string) ([]iceServer, error) {
	r, err := http.NewRequest("GET", "https://"+name+"/ice", nil)
	if err != nil {
		return nil, err
	}
	r.SetBasicAuth(mailbox, "password of "+mailbox)
	resp, err := s.httpClient(from).Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	var body struct {
		ICEServers []iceServer `json:"iceServers"`
	}
	if err := json.Unmarshal(text, &body); err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET /ice: got status %d and %q, %w", resp.StatusCode, text, err)
	}
	return body.ICEServers, nil
}

// fetchTURN returns the entry of GET /ice that has credentials.
func (s *site) fetchTURN(from, name, mailbox string) (iceServer, error) {
	all, err := s.fetchICE(from, name, mailbox)
	if err != nil {
		return iceServer{}, err
	}
	for _, one := range all {
		if one.Credential != "" {
			return one, nil
		}
	}
	return iceServer{}, fmt.Errorf("got ICE servers %v, want one with credentials", all)
}
