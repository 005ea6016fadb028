package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"inbox/cmd/inbox/internal/conn"
	"inbox/cmd/inbox/internal/limits"
	"inbox/cmd/inbox/internal/logging"
	"inbox/cmd/inbox/internal/metrics"
	"inbox/inbox"
	"inbox/inbox/invite"
	"inbox/ratelimit"
	"inbox/tlsmgr"
	"inbox/turn"
)

// now is the time of the tests.
var now = time.Date(2026, 11, 30, 14, 3, 20, 0, time.UTC)

// counters are what the sources of a test return.
type counters struct {
	mu        sync.Mutex
	claims    int64
	receivers []inbox.ReceiverStats
	refused   map[string]int64
	turn      turn.State
}

// read returns a value that a test can change at the same time.
func read[T any](c *counters, value func() T) T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return value()
}

// lines is a log that a test reads while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take returns what was written since the last call.
func (l *lines) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.text.String()
	l.text.Reset()
	return text
}

// newSources returns sources of a server that has served nothing yet.
func newSources(c *counters) Sources {
	clientIP := &ratelimit.ClientIP{}
	return Sources{
		Sources: metrics.Sources{
			Version: "v1.0.0", MaxMemoryBytes: 512 << 20, MaxInboxes: 100000, MaxQueuedBytes: 256 << 20, MaxConns: 10000,
			Failing:   func() []string { return nil },
			Mailboxes: func() inbox.Stats { return inbox.Stats{Inboxes: 12, Queued: 3, QueuedBytes: 4096} },
			Claims:    func() int64 { return read(c, func() int64 { return c.claims }) },
			Receivers: func() []inbox.ReceiverStats { return read(c, func() []inbox.ReceiverStats { return c.receivers }) },
			Refusals:  func() map[string]int64 { return read(c, func() map[string]int64 { return maps.Clone(c.refused) }) },
			Sockets: func() map[string]metrics.Sockets {
				return map[string]metrics.Sockets{"topics": {Open: 2}, "peerjs": {Open: 31, Frames: map[string]int64{"offer": 400, "heartbeat": 1000}}}
			},
			Errors: logging.NewErrorLog(slog.New(slog.DiscardHandler)),
			Limits: limits.New(limits.Config{}, clientIP, conn.NewClientResolver(clientIP, nil)),
			Certificates: func() []tlsmgr.NameState {
				return []tlsmgr.NameState{
					{Name: "a.example", Source: "acme", Issuer: "E7", Status: "valid", NotBefore: now.AddDate(0, 0, -29), NotAfter: now.AddDate(0, 0, 61), RenewAt: now.AddDate(0, 0, 31)},
					{Name: "b.example", Engine: "certmagic", Failures: 3, LastError: errors.New("order rejected: \x1b[31mNXDOMAIN"), LastAttempt: now.Add(-time.Hour), NextAttempt: now.Add(time.Hour)},
				}
			},
		},
		TURN:        func() turn.State { return read(c, func() turn.State { return c.turn }) },
		Invitations: func() invite.Stats { return invite.Stats{Valid: 3, Expired: 2, Revoked: 1, GuestPasses: 7} },
		Started:     now.Add(-3 * time.Hour), Warnings: &logging.Recent{},
	}
}

// sampleCounters returns counters with values in all fields.
func sampleCounters() *counters {
	return &counters{
		claims: 20, receivers: []inbox.ReceiverStats{
			{Transport: inbox.LongPoll, Open: 5, Deliveries: inbox.Deliveries{AutoAck: 900, ManualAck: 200, Requeued: 2}},
			{Transport: inbox.EventStream, Open: 2, Deliveries: inbox.Deliveries{AutoAck: 100, ManualAck: 34}},
		},
		refused: map[string]int64{"no-inbox": 40, "misdirected-request": 2, "unauthorized": 0},
		turn:    turn.State{UDP: turn.TransportState{Allocations: 4, Allocated: 9, RelayedBytes: 1 << 30}, Refused: map[string]int64{"peer": 3}, MonthBytes: 412e9, MonthLimit: 1000e9},
	}
}

func newSample(t *testing.T) *Operator {
	t.Helper()
	s := newSources(sampleCounters())
	log := logging.New(t.Output(), logging.Options{Recent: s.Warnings})
	for range 3 {
		log.Warn("order failed", "name", "b.example", "err", "dial 192.0.2.7:443: \x1b[31mrefused")
	}
	s.Earlier = []time.Time{now.AddDate(0, 0, -20), now.AddDate(0, 0, -3), now.Add(-5 * time.Hour)}
	o := New(s)
	o.history.add(o.sample(now.Add(-5 * time.Second)))
	o.history.add(o.sample(now))
	return o
}

func TestStatus(t *testing.T) {
	s := newSample(t).Status(now)
	if !s.Ready || s.Process.UptimeSeconds != 3*3600 || s.Messages.DeliveredTotal != 1234 || s.TURN.AllocationsTotal != 9 || s.Process.MemoryBytes < 1<<20 {
		t.Errorf("got %+v", s)
	}
	if r := s.Receivers; r.Open != 7 || !maps.Equal(r.Transports, map[string]int64{"poll": 5, "sse": 2}) {
		t.Errorf("got %+v, want 5 polls and 2 streams", r)
	}
	if s.Restarts.LastDay != 2 || s.Restarts.LastWeek != 3 {
		t.Errorf("got %d restarts in a day and %d in a week, want 2 and 3", s.Restarts.LastDay, s.Restarts.LastWeek)
	}
	if got := s.TURN.MonthEndsAt; got != time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC) {
		t.Errorf("the month ends at %s", got)
	}
	if w := s.Warnings[0]; w.Count != 3 || strings.Contains(w.Attributes[1].Value, "192.0.2.7") {
		t.Errorf("got %+v, want three repetitions and a masked address", w)
	}
	if l := s.Refusals[layerMailboxes]; l.Total != 40 || l.LastMinutes != 0 || !maps.Equal(l.Reasons, map[string]int64{"no-inbox": 40}) {
		t.Errorf("got %+v, want 40 refusals before the history", l)
	}
	if len(s.Refusals) != int(numLayers) || s.Refusals[layerRequests].Total != 2 || s.Refusals[layerTURN].Total != 3 {
		t.Errorf("got %+v", s.Refusals)
	}
}

// TestRates checks rates over a minute, and over the time since the start before.
func TestRates(t *testing.T) {
	c := &counters{receivers: make([]inbox.ReceiverStats, 1)}
	o := New(newSources(c))
	for i := range 2 * rateSamples {
		c.receivers[0].AutoAck = int64(10 * max(0, i-rateSamples)) // 2 per second, in the second minute
		o.history.add(o.sample(now.Add(time.Duration(i) * sampleInterval)))
		if i == 0 && o.Status(now).Messages.PerSecond != 0 {
			t.Error("got a rate from one sample")
		}
	}
	s := o.Status(now)
	if got := s.Messages.PerSecond; got < 1.8 || got > 2 {
		t.Errorf("got %v messages per second, want nearly 2", got)
	}
	if h := s.History; len(h.MessagesPerSecond) != 2*rateSamples-1 || h.MessagesPerSecond[0] != 0 || h.MessagesPerSecond[2*rateSamples-2] != 2 || len(h.Receivers) != len(h.MemoryBytes) {
		t.Errorf("got the history %+v", h)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	var h history
	for i := range 3 * maxSamples {
		h.add(sample{mailboxes: int64(i)})
	}
	all := h.all()
	if len(historyOf(all).Mailboxes) != maxSamples || all[len(all)-1].mailboxes != 3*maxSamples-1 {
		t.Errorf("got %d samples up to %d", len(all), all[len(all)-1].mailboxes)
	}
}

// TestEveryLimitHasALayer checks that each limit refuses in a layer or delays.
func TestEveryLimitHasALayer(t *testing.T) {
	s := newSources(&counters{})
	for limit := range s.Limits.Refused() {
		if _, refuses := limitLayers[limit]; refuses == slices.Contains(delays, limit) {
			t.Errorf("the limit %s belongs to limitLayers or to delays", limit)
		}
	}
	if got, want := len(limitLayers)+len(delays), len(s.Limits.Refused()); got != want {
		t.Errorf("got %d limits, want %d", got, want)
	}
	for _, reason := range clientFailures {
		if _, known := s.Errors.HandshakeErrors()[reason]; !known {
			t.Errorf("unknown reason %s", reason)
		}
	}
}

// fields returns the types of all names in a JSON value, by path.
func fields(path string, value any, to map[string]string) {
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			fields(strings.TrimPrefix(path+"."+name, "."), member, to)
		}
	case []any:
		for _, element := range v {
			fields(path+"[]", element, to)
		}
	case bool:
		to[path] = "boolean"
	case float64:
		to[path] = "number"
	case string:
		to[path] = "string"
		if _, err := time.Parse(time.RFC3339, v); err == nil {
			to[path] = "time"
		}
	}
}

// TestStatusIsDocumented compares the fields of the JSON with docs/monitoring.md.
func TestStatusIsDocumented(t *testing.T) {
	status := newSample(t).Status(now)
	status.Failing = []string{"store"}
	status.Certificates[0].LastAttempt, status.Certificates[0].NextAttempt = &now, &now
	text, err := json.Marshal(status)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	fields("", value, got)
	page, err := os.ReadFile("../../../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "### status.json")
	section, _, _ = strings.Cut(section, "\n## ")
	want := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9_.\\[\\]]+)` \\| ([a-z]+)").FindAllStringSubmatch(section, -1) {
		want[m[1]] = m[2]
	}
	reason := regexp.MustCompile(`^(refusals\[\]\.reasons|receivers\.transports)\..*`)
	seen := map[string]bool{}
	for path, kind := range got {
		path = reason.ReplaceAllString(path, "$1")
		seen[path] = true
		if want[path] != kind || path != strings.ToLower(path) {
			t.Errorf("docs/monitoring.md has %s as %q, want %q and lower case", path, want[path], kind)
		}
	}
	for path := range want {
		if !seen[path] {
			t.Errorf("docs/monitoring.md describes %s, which does not exist", path)
		}
	}
}

// TestSummaries checks the hourly line with a clock of the test.
func TestSummaries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lines
		c := sampleCounters()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			LogSummaries(ctx, newSources(c), slog.New(slog.NewTextHandler(&out, nil)))
		}()
		hour := func() string {
			time.Sleep(summaryInterval)
			synctest.Wait()
			return out.take()
		}
		synctest.Wait()
		if got := hour(); got != "" {
			t.Errorf("got %q for an hour without events, want nothing", got)
		}
		c.mu.Lock()
		c.claims += 2
		c.receivers = []inbox.ReceiverStats{{Deliveries: inbox.Deliveries{AutoAck: 1030, ManualAck: 239}}}
		c.turn.TLS.Allocated, c.refused = 7, map[string]int64{"no-inbox": 47, "misdirected-request": 2}
		c.mu.Unlock()
		if got, want := hour(), `level=INFO msg="last hour" mailboxesClaimed=2 messagesDelivered=35 relaysOpened=7 refusals=7`; !strings.Contains(got, want) || strings.Count(got, "\n") != 1 {
			t.Errorf("got %q, want %q", got, want)
		}
		c.mu.Lock()
		c.claims++
		c.mu.Unlock()
		if got, want := hour(), "mailboxesClaimed=1 messagesDelivered=0 relaysOpened=0 refusals=0"; !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := hour(); got != "" {
			t.Errorf("got %q for an hour without events, want nothing", got)
		}
		cancel()
		<-done
	})
}

func TestRecordStart(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 * maxStarts {
		earlier, err := RecordStart(dir, now.Add(time.Duration(i)*time.Minute))
		if err != nil || len(earlier) != min(i, maxStarts-1) || len(earlier) > 0 && !earlier[len(earlier)-1].Equal(now.Add(time.Duration(i-1)*time.Minute)) {
			t.Fatalf("start %d: got %v, %v", i, earlier, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, StartsFile)); err != nil || info.Size() > maxStartsBytes/2 {
		t.Errorf("got %v, %v", info, err)
	}
	if err := os.WriteFile(filepath.Join(dir, StartsFile), []byte("x\n2026-01-01T00:00:00Z\n\n2099-01-01T00:00:00Z\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if earlier, err := RecordStart(dir, now); err != nil || len(earlier) != 1 {
		t.Errorf("got %v, %v; want the one valid time", earlier, err)
	}
	if earlier, err := RecordStart("", now); earlier != nil || err != nil {
		t.Errorf("without a directory: got %v, %v", earlier, err)
	}
}

// TestPage checks the files, their headers, and that nothing is inline or from another host.
func TestPage(t *testing.T) {
	handlers := newSample(t).Handlers()
	for _, path := range []string{"/", "/page.css", "/page.js", "/view.js", "/chart.js", "/format.js", "/favicon.svg", StatusPath} {
		if handlers[path] == nil {
			t.Fatalf("no handler of %s in %v", path, slices.Sorted(maps.Keys(handlers)))
		}
		w := httptest.NewRecorder()
		handlers[path](w, httptest.NewRequest("GET", path, nil))
		h := w.Header()
		if w.Code != http.StatusOK || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("Content-Type") == "" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: got %d, %v", path, w.Code, h)
		}
		text := strings.ReplaceAll(w.Body.String(), "http://www.w3.org/", "")
		if path != StatusPath && regexp.MustCompile(`https?://|<style|<script>|style=|onclick|innerHTML`).MatchString(text) {
			t.Errorf("%s has inline code or another host", path)
		}
		if etag := h.Get("ETag"); etag != "" {
			again, r := httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)
			r.Header.Set("If-None-Match", etag)
			if handlers[path](again, r); again.Code != http.StatusNotModified {
				t.Errorf("%s: got %d for the same ETag, want 304", path, again.Code)
			}
		}
	}
	if len(handlers) != 8 {
		t.Errorf("got the paths %v, want 8", slices.Sorted(maps.Keys(handlers)))
	}
}

// TestFetch reads the state over HTTP, and recognizes other servers.
func TestFetch(t *testing.T) {
	o := newSample(t)
	for body, handler := range map[string]http.HandlerFunc{
		"":                           o.Handlers()[StatusPath],
		"status: HTTP status 404":    http.NotFound,
		"not the status of an inbox": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") },
		"invalid character '<'":      func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"status: HTTP status 302":    func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) },
		"server: HTTP status 421":    func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(421) },
		"unexpected EOF":             func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"version":`) },
	} {
		s := httptest.NewServer(handler)
		status, err := Fetch(t.Context(), s.Listener.Addr().String())
		s.Close()
		want := strings.TrimPrefix(strings.TrimPrefix(body, "status: "), "server: ")
		switch {
		case body == "" && (err != nil || status.Version != "v1.0.0"):
			t.Errorf("got %+v, %v", status, err)
		case body != "" && (err == nil || !errors.Is(err, ErrNoStatus) || !strings.Contains(err.Error(), want)):
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestFetchAddress checks addresses that a URL cannot have. Nothing listens on them.
func TestFetchAddress(t *testing.T) {
	for _, address := range []string{"[fe80::1%lo]:1", "127.0.0.1:tcpmux"} {
		if _, err := Fetch(t.Context(), address); err == nil || strings.Contains(err.Error(), "parse") {
			t.Errorf("%s: got %v, want an error of the connection", address, err)
		}
	}
}

func TestDialAddress(t *testing.T) {
	for bind, want := range map[string]string{
		":9091": "127.0.0.1:9091", "0.0.0.0:9091": "127.0.0.1:9091", "[::]:9091": "[::1]:9091", "192.0.2.1:9091": "192.0.2.1:9091", "localhost:9091": "localhost:9091",
	} {
		if got := DialAddress(bind); got != want {
			t.Errorf("%s: got %s, want %s", bind, got, want)
		}
	}
}
