package recipes

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"inbox/e2e/turnclient"
)

// limits make the server refuse a client soon.
const limits = "INBOX_RATE=1\nINBOX_BURST=40\n"

// pollTime is the default of -poll-timeout.
const pollTime = 25 * time.Second

// checkMailboxes checks the server through what is in front of it, from several clients at once.
func (m *machine) checkMailboxes(canceledPoll func(*machine), more ...func(*machine)) {
	m.t.Run("mailboxes", func(t *testing.T) {
		checks := map[string]func(*machine){
			"whole poll": checkWholePoll, "message": checkMessage, "canceled poll": canceledPoll, "origin": checkOrigin,
			"limit of a client": checkClientLimit, "event stream": checkEventStream, "WebSocket": checkWebSocket,
		}
		for _, check := range more {
			checks["browser"] = check
		}
		for name, check := range checks {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				part := *m
				part.t = t
				check(&part)
			})
		}
	})
}

// request is a request of a peer, whose password is derived from its name.
func (m *machine) request(method, path, name, body string) *http.Request {
	m.t.Helper()
	r, err := http.NewRequestWithContext(m.t.Context(), method, "https://"+site+path, strings.NewReader(body))
	m.must(err)
	if name != "" {
		r.SetBasicAuth(name, "password of "+name)
	}
	return r
}

// wantStatus sends a request from a client, and returns the body of the response.
func (m *machine) wantStatus(c *http.Client, r *http.Request, want int) string {
	m.t.Helper()
	resp, err := c.Do(r)
	m.must(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		m.t.Errorf("%s %s: got %s (%s), %v; want %d", r.Method, r.URL, resp.Status, text, err, want)
	}
	return string(text)
}

// checkWholePoll checks that nothing cuts a poll of the default length.
func checkWholePoll(m *machine) {
	began := time.Now()
	m.wantStatus(m.client(10), m.request("GET", "/inbox", "patient", ""), http.StatusNoContent)
	if took := time.Since(began); took < pollTime-time.Second {
		m.t.Errorf("the poll waited %v, want %v", took, pollTime)
	}
}

// checkMessage checks a message to a poll that waits.
func checkMessage(m *machine) {
	alice := m.client(11)
	m.wantStatus(alice, m.request("GET", "/inbox?wait=0", "alice", ""), http.StatusNoContent)
	got := make(chan string, 1)
	go func() {
		resp, err := alice.Do(m.request("GET", "/inbox", "alice", ""))
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		got <- string(text)
	}()
	m.wantStatus(m.client(12), m.request("POST", "/inbox?to=alice", "bob", "hello"), http.StatusOK)
	if text := <-got; text != "hello" {
		m.t.Errorf("waiting poll: got %q, want hello", text)
	}
}

// endsCanceledPoll checks that the server notices when a client leaves, so that its poll does not
// take a message along.
func endsCanceledPoll(m *machine) {
	checkCanceledPoll(m, m.client(13), "/inbox?")
	checkCanceledPoll(m, overHTTP1(m.client(13)), "/inbox?")
}

// keepsCanceledPoll checks that a client that acknowledges messages loses none, although a proxy
// continues its poll after it has left.
func keepsCanceledPoll(m *machine) { checkCanceledPoll(m, m.client(13), "/inbox?after=") }

// overHTTP1 returns the client without HTTP/2.
func overHTTP1(c *http.Client) *http.Client {
	transport := c.Transport.(*http.Transport)
	transport.ForceAttemptHTTP2 = false
	transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	return c
}

func checkCanceledPoll(m *machine, client *http.Client, path string) {
	m.t.Helper()
	m.wantStatus(client, m.request("GET", "/inbox?wait=0", "carol", ""), http.StatusNoContent)
	// The server needs a moment until it notices, a long one on a busy machine. The poll would
	// wait longer.
	for _, pause := range []time.Duration{2 * time.Second, 15 * time.Second} {
		ctx, cancel := context.WithTimeout(m.t.Context(), time.Second)
		if resp, err := client.Do(m.request("GET", path, "carol", "").WithContext(ctx)); err == nil {
			resp.Body.Close()
			m.t.Errorf("canceled poll: got %s, want no response", resp.Status)
		}
		cancel()
		time.Sleep(pause)
		m.wantStatus(m.client(14), m.request("POST", "/inbox?to=carol", "dave", "later"), http.StatusOK)
		resp, err := client.Do(m.request("GET", path+"&wait=1", "carol", ""))
		m.must(err)
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(text) == "later" {
			return
		}
	}
	m.t.Error("after canceled polls: got no message")
}

// checkOrigin checks that the server sees the host of the site.
func checkOrigin(m *machine) {
	client := m.client(15)
	for origin, want := range map[string]int{"https://" + site: http.StatusNoContent, "https://other.example": http.StatusForbidden} {
		r := m.request("GET", "/inbox?wait=0", "page", "")
		r.Header.Set("Origin", origin)
		m.wantStatus(client, r, want)
	}
}

// checkClientLimit has a client exhaust its requests. Forged fields do not help it, and other
// clients keep theirs.
func checkClientLimit(m *machine) {
	client := m.client(16)
	limited := false
	for i := 0; i < 1000 && !limited; i++ {
		r := m.request("GET", "/robots.txt", "", "")
		for _, field := range []string{"X-Forwarded-For", "Forwarded", "X-Real-IP", "CF-Connecting-IP"} {
			r.Header.Set(field, fmt.Sprintf("192.168.7.%d", i%250))
		}
		resp, err := client.Do(r)
		m.must(err)
		resp.Body.Close()
		limited = resp.StatusCode == http.StatusTooManyRequests
	}
	if !limited {
		m.t.Error("got no 429 in 1000 requests: the server does not know the client, or a forged field is trusted")
	}
	other := m.client(17)
	for range 10 {
		m.wantStatus(other, m.request("GET", "/robots.txt", "", ""), http.StatusOK)
	}
}

// checkDoctor runs inbox doctor as the documentation does. The name does not lead to the machine
// in the eyes of the doctor, so it can warn.
func (m *machine) checkDoctor(want ...string) {
	m.t.Helper()
	out, err := m.command(program, append([]string{"doctor"}, inboxOptions()...)...).CombinedOutput()
	text := strings.Join(strings.Fields(string(out)), " ")
	for _, w := range want {
		if !strings.Contains(text, w) {
			m.t.Errorf("inbox doctor: want %q in\n%s", w, out)
		}
	}
	if err != nil {
		m.t.Errorf("inbox doctor: %v\n%s", err, out)
	}
}

// iceServers returns the URLs of GET /ice for a mailbox, and its credentials for TURN.
func (m *machine) iceServers(mailbox string) (urls []string, username, credential string) {
	m.t.Helper()
	var body struct {
		ICEServers []struct {
			URLs                 []string
			Username, Credential string
		}
	}
	text := m.wantStatus(m.client(20), m.request("GET", "/ice", mailbox, ""), http.StatusOK)
	m.must(json.Unmarshal([]byte(text), &body))
	for _, s := range body.ICEServers {
		urls = append(urls, s.URLs...)
		if s.Credential != "" {
			username, credential = s.Username, s.Credential
		}
	}
	return urls, username, credential
}

// checkRelay checks which URLs are offered, and sends a packet over each transport. The server
// must see the address of the client.
func (m *machine) checkRelay(wantURLs ...string) {
	m.t.Helper()
	urls, username, credential := m.iceServers("relay")
	if !slices.Equal(urls, wantURLs) {
		m.t.Fatalf("GET /ice: got %q, want %q", urls, wantURLs)
	}
	m.checkTransport("udp", "3478", username, credential)
	if strings.HasPrefix(urls[len(urls)-1], "turns:") {
		m.checkTransport("tls", "443", username, credential)
	}
}

func (m *machine) checkTransport(transport, port, username, credential string) {
	m.t.Helper()
	const channel = 0x4000
	var clients [2]*turnclient.Client
	for i := range clients {
		c := turnclient.New(m.dialTURN(21+i, transport, port), username, credential)
		defer c.Close()
		m.checkReflexive(c, transport, 21+i)
		m.must(c.Allocate())
		clients[i] = c
	}
	a, b := clients[0], clients[1]
	m.must(a.Bind(channel, b.Relay))
	m.must(b.Bind(channel, a.Relay))
	for attempt := 0; ; attempt++ { // a datagram can get lost
		m.must(a.Send(channel, []byte("over "+transport)))
		_ = b.Conn().SetReadDeadline(time.Now().Add(turnclient.Timeout)) // fails on a closed connection, as the read will
		if _, payload, err := b.Receive(); err == nil && string(payload) == "over "+transport {
			return
		} else if attempt == 2 {
			m.t.Fatalf("relay over %s: got %q, %v", transport, payload, err)
		}
	}
}

// checkReflexive checks that the server sees the address of a client.
func (m *machine) checkReflexive(c *turnclient.Client, transport string, client int) {
	m.t.Helper()
	response, err := c.Request(stun.MethodBinding)
	m.must(err)
	var mapped stun.XORMappedAddress
	m.must(mapped.GetFrom(response))
	if want := fmt.Sprint(clientNet, client); mapped.IP.String() != want {
		m.t.Errorf("STUN over %s: the server sees %s, want %s", transport, mapped.IP, want)
	}
}

func (m *machine) dialTURN(client int, transport, port string) net.Conn {
	m.t.Helper()
	if transport == "udp" {
		c, err := m.dial(m.t.Context(), client, "udp4", port)
		m.must(err)
		return c
	}
	raw, err := m.dial(m.t.Context(), client, "tcp", port)
	m.must(err)
	c := tls.Client(raw, &tls.Config{ServerName: site, InsecureSkipVerify: true})
	m.must(c.HandshakeContext(m.t.Context()))
	return c
}

// The URLs of GET /ice.
const (
	stunURL = "stun:" + site + ":3478"
	turnURL = "turn:" + site + ":3478?transport=udp"
	tlsURL  = "turns:" + site + ":443?transport=tcp"
)
