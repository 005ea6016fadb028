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
	manyClients = 20 // each with one connection of HTTP/2
	manyPolls   = 1000
)

// many is a thousand held polls on a few connections, and posts to all of them.
type many struct {
	url                        string
	clients                    [manyClients]*http.Client
	mu                         sync.Mutex
	accepted, seen             map[string]int
	broken, refused, malformed int
}

func newMany(url string) *many {
	m := &many{url: url, accepted: map[string]int{}, seen: map[string]int{}}
	for i := range m.clients {
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 9, 0, byte(1+i))}}
		m.clients[i] = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
			DialContext: from.DialContext, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		}}
	}
	return m
}

func (m *many) ask(ctx context.Context, client int, method, query, name, body string) (*http.Response, string) {
	r, err := http.NewRequestWithContext(ctx, method, m.url+"/inbox?"+query, strings.NewReader(body))
	if err != nil {
		panic(err) // the test's own mistake
	}
	r.GetBody = nil // asked once, whatever comes
	r.SetBasicAuth(name, "secret of "+name)
	answer, err := m.clients[client].Do(r)
	if err == nil {
		defer answer.Body.Close()
		var text []byte
		if text, err = io.ReadAll(answer.Body); err == nil {
			return answer, string(text)
		}
	}
	if ctx.Err() == nil {
		m.note(func() {
			if m.broken++; strings.Contains(err.Error(), "refused") {
				m.refused++
			}
		})
	}
	return nil, ""
}

func (m *many) note(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// receive acknowledges what comes for receiver n.
func (m *many) receive(ctx context.Context, n int) {
	name, after := fmt.Sprint("many-", n), ""
	for ctx.Err() == nil {
		answer, text := m.ask(ctx, n%manyClients, "GET", "after="+after, name, "")
		switch {
		case answer == nil:
			time.Sleep(50 * time.Millisecond)
		case answer.StatusCode == http.StatusOK:
			after = answer.Header.Get("X-Message-Id")
			m.note(func() { m.seen[text]++ })
		case answer.StatusCode != http.StatusNoContent:
			m.note(func() { m.malformed++ })
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// post sends numbers to all in turn until ctx ends.
func (m *many) post(ctx context.Context, lane int) {
	for n := lane; ctx.Err() == nil; n += 4 {
		text := fmt.Sprint(n)
		// Not ctx: whoever hangs up does not know whether it was accepted.
		to := fmt.Sprintf("to=many-%d&wait=5", n%manyPolls)
		if answer, _ := m.ask(context.Background(), lane, "POST", to, fmt.Sprint("poster-", lane), text); answer != nil && answer.StatusCode == http.StatusOK {
			m.note(func() { m.accepted[text]++ })
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// missing is how much of what was accepted has not come.
func (m *many) missing() (n int) {
	m.note(func() {
		for text := range m.accepted {
			if m.seen[text] == 0 {
				n++
			}
		}
	})
	return n
}

// settle lets it go on for two seconds, and on a busy machine until so many more
// posts were accepted.
func (m *many) settle(t *testing.T) {
	t.Helper()
	const more = 150
	before, now := -1, 0
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(50 * time.Millisecond) {
		m.note(func() { now = len(m.accepted) })
		if before < 0 {
			before = now
		}
		if time.Since(began) > 2*time.Second && now >= before+more {
			return
		}
	}
	t.Fatalf("%d posts were accepted in a minute, want %d", now-before, more)
}

// A thousand held polls and posts on their way over HTTP/2 live through restarts.
func TestRestartsWithAThousandPolls(t *testing.T) {
	s := startService(t, true)
	m := newMany("https://" + s.addr)
	receiving, endReceiving := context.WithCancel(context.Background())
	posting, endPosting := context.WithCancel(context.Background())
	var receivers, posters sync.WaitGroup
	for n := range manyPolls {
		receivers.Go(func() { m.receive(receiving, n) })
	}
	for lane := range 4 {
		posters.Go(func() { m.post(posting, lane) })
	}
	m.settle(t)
	for range 3 {
		if _, err := s.restart(); err != nil {
			t.Error(err)
		}
		m.settle(t)
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
	t.Logf("accepted %d, lost %d, without an answer %d, refused connections %d, other answers %d", len(m.accepted), lost, m.broken, m.refused, m.malformed)
	if lost > 0 || m.refused > 0 || m.malformed > 0 {
		t.Errorf("lost %d of %d, %d connections refused, %d answers that nobody expects", lost, len(m.accepted), m.refused, m.malformed)
	}
}
