package soak

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	manyClients = 20 // each with one HTTP/2 connection
	manyPolls   = 1000
)

// pollLoad keeps a thousand polls open on a few connections and sends messages to all of
// them.
type pollLoad struct {
	url                                   string
	clients                               [manyClients]*http.Client
	mu                                    sync.Mutex
	accepted, received                    map[string]int
	noResponse, refused, unexpectedStatus int
}

func newPollLoad(url string) *pollLoad {
	m := &pollLoad{url: url, accepted: map[string]int{}, received: map[string]int{}}
	for i := range m.clients {
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 9, 0, byte(1+i))}}
		m.clients[i] = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
			DialContext: from.DialContext, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		}}
	}
	return m
}

func (m *pollLoad) request(
	ctx context.Context, client int, method, query, name, body string,
) (*http.Response, string) {
	r, err := http.NewRequestWithContext(ctx, method, m.url+"/inbox?"+query, strings.NewReader(body))
	if err != nil {
		panic(err) // a bug in the test
	}
	r.GetBody = nil // the transport must not retry
	r.SetBasicAuth(name, "secret of "+name)
	resp, err := m.clients[client].Do(r)
	if err == nil {
		defer resp.Body.Close()
		var text []byte
		if text, err = io.ReadAll(resp.Body); err == nil {
			return resp, string(text)
		}
	}
	if ctx.Err() == nil {
		m.withLock(func() {
			if m.noResponse++; strings.Contains(err.Error(), "refused") {
				m.refused++
			}
		})
	}
	return nil, ""
}

func (m *pollLoad) withLock(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// receive receives and acknowledges the messages of receiver n.
func (m *pollLoad) receive(ctx context.Context, n int) {
	name, after := fmt.Sprint("many-", n), ""
	for ctx.Err() == nil {
		resp, text := m.request(ctx, n%manyClients, "GET", "after="+after, name, "")
		switch {
		case resp == nil:
			time.Sleep(50 * time.Millisecond)
		case resp.StatusCode == http.StatusOK:
			after = resp.Header.Get("X-Message-Id")
			m.withLock(func() { m.received[text]++ })
		case resp.StatusCode != http.StatusNoContent:
			m.withLock(func() { m.unexpectedStatus++ })
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// post sends numbers to all receivers in turn until ctx ends.
func (m *pollLoad) post(ctx context.Context, worker int) {
	for n := worker; ctx.Err() == nil; n += 4 {
		text := fmt.Sprint(n)
		// Not ctx: after a cancellation it is unknown if the message was accepted.
		to := fmt.Sprintf("to=many-%d&wait=5", n%manyPolls)
		resp, _ := m.request(context.Background(), worker, "POST", to, fmt.Sprint("poster-", worker), text)
		if resp != nil && resp.StatusCode == http.StatusOK {
			m.withLock(func() { m.accepted[text]++ })
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// missing returns how many accepted messages have not arrived.
func (m *pollLoad) missing() (n int) {
	m.withLock(func() {
		for text := range m.accepted {
			if m.received[text] == 0 {
				n++
			}
		}
	})
	return n
}

// waitForPosts waits two seconds, or on a busy machine longer, until 150 more messages
// were accepted.
func (m *pollLoad) waitForPosts(t *testing.T) {
	t.Helper()
	const more = 150
	before, now := -1, 0
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(50 * time.Millisecond) {
		m.withLock(func() { now = len(m.accepted) })
		if before < 0 {
			before = now
		}
		if time.Since(began) > 2*time.Second && now >= before+more {
			return
		}
	}
	t.Fatalf("got %d messages accepted in a minute, want %d", now-before, more)
}

// A thousand waiting polls over HTTP/2, and POSTs to them, survive restarts.
func TestRestartsWithThousandPolls(t *testing.T) {
	s := startService(t, true)
	m := newPollLoad("https://" + s.addr)
	receiving, endReceiving := context.WithCancel(context.Background())
	posting, endPosting := context.WithCancel(context.Background())
	var receivers, posters sync.WaitGroup
	for n := range manyPolls {
		receivers.Go(func() { m.receive(receiving, n) })
	}
	for worker := range 4 {
		posters.Go(func() { m.post(posting, worker) })
	}
	m.waitForPosts(t)
	for range 3 {
		if _, err := s.restart(); err != nil {
			t.Error(err)
		}
		m.waitForPosts(t)
	}
	endPosting()
	posters.Wait()
	for end := time.Now().Add(15 * time.Second); m.missing() > 0 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
	}
	lost := m.missing()
	endReceiving()
	receivers.Wait()
	for _, c := range m.clients {
		c.CloseIdleConnections()
	}
	t.Logf("accepted %d, lost %d, no response %d, refused connections %d, unexpected statuses %d",
		len(m.accepted), lost, m.noResponse, m.refused, m.unexpectedStatus)
	if lost > 0 || m.refused > 0 || m.unexpectedStatus > 0 {
		t.Errorf("got %d of %d messages lost, %d connections refused, %d unexpected statuses, want none",
			lost, len(m.accepted), m.refused, m.unexpectedStatus)
	}
}
