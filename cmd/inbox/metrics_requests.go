package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// route is one of the few kinds of requests that are told apart. What a
// stranger writes into a path never becomes a label.
type route uint8

const (
	routeReceive route = iota
	routeSend
	routeDelete
	routeInbox
	routeICE
	routeHealth
	routeReady
	routePages
	routeRedirect // all of port 80
)

// routes are the labels.
var routes = [...]string{
	"GET /inbox", "POST /inbox", "DELETE /inbox", "/inbox", "/ice", "/healthz", "/readyz", "pages", "port 80",
}

func routeOf(r *http.Request) route {
	switch r.URL.Path {
	case "/inbox":
		switch r.Method {
		case http.MethodGet:
			return routeReceive
		case http.MethodPost:
			return routeSend
		case http.MethodDelete:
			return routeDelete
		}
		return routeInbox
	case "/ice":
		return routeICE
	case "/healthz":
		return routeHealth
	case "/readyz":
		return routeReady
	}
	return routePages
}

const (
	// statusClientClosed stands for a client that went away before its answer, or a
	// stream that was reset: the handler ends in a panic with
	// http.ErrAbortHandler.
	statusClientClosed = 499
	maxStatus          = 600
)

// latencyBuckets are the upper ends of the histogram, in seconds: a relayed message
// takes some 20 µs, a body may take 30 s.
var latencyBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// meter counts requests and times them, and logs each at debug. It costs two
// readings of the clock, so it is in the chain only when somebody reads it.
type meter struct {
	start    time.Time // a reading that is relative to it costs half
	requests [len(routes)][maxStatus]atomic.Int64
	latency  *prometheus.HistogramVec
	observe  [len(routes)]prometheus.Observer
	pool     sync.Pool // of *metered
	log      *slog.Logger
	addr     func(*http.Request) netip.Addr
}

// buildMeter makes the meter for whoever reads it: the metrics, or the log.
func (s *server) buildMeter() {
	var log *slog.Logger
	if s.log.Enabled(context.Background(), slog.LevelDebug) {
		log = s.log
	}
	if log != nil || s.listeners.metrics != nil {
		s.meter = newMeter(log, s.clients.Addr)
	}
}

// newMeter logs to log, if that is not nil.
func newMeter(log *slog.Logger, addr func(*http.Request) netip.Addr) *meter {
	m := &meter{start: time.Now(), log: log, addr: addr}
	m.latency = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "inbox_request_duration_seconds", Buckets: latencyBuckets,
		Help: "Time that requests took, without the time they were held to wait for a message or a recipient; without those refused with 429 or given up.",
	}, []string{"route"})
	for i, name := range routes {
		m.observe[i] = m.latency.WithLabelValues(name)
	}
	m.pool.New = func() any { return new(metered) }
	return m
}

// handler meters next, whose requests are of the routes that find says. No
// meter leaves it as it is.
func (m *meter) handler(routeFor func(*http.Request) route, next http.Handler) http.Handler {
	if m == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := m.pool.Get().(*metered)
		*a = metered{ResponseWriter: w, began: time.Since(m.start)}
		defer m.finish(a, r, routeFor(r))
		next.ServeHTTP(a, r)
	})
}

// finish is deferred: a panic passes through it, and is counted for what it is.
func (m *meter) finish(a *metered, r *http.Request, rt route) {
	failure := recover()
	status := a.status
	switch {
	case failure == http.ErrAbortHandler:
		status = statusClientClosed
	case failure != nil:
		status = http.StatusInternalServerError
	case status == 0:
		status = http.StatusOK // nothing written is an empty 200
	}
	took := time.Since(m.start) - a.began
	m.requests[rt][min(status, maxStatus-1)].Add(1)
	if status != http.StatusTooManyRequests && status != statusClientClosed {
		m.observe[rt].Observe((took - a.waited).Seconds())
	}
	if m.log != nil {
		m.logRequest(r, rt, status, took, a.bytes)
	}
	a.ResponseWriter = nil
	m.pool.Put(a)
	if failure != nil {
		panic(failure)
	}
}

// onWait is for inbox.Config: a request that waited was not slow. No meter, no
// hook, so that nobody reads the clock for it.
func (m *meter) onWait() func(http.ResponseWriter, time.Duration) {
	if m == nil {
		return nil
	}
	return func(w http.ResponseWriter, d time.Duration) {
		if a, ok := w.(*metered); ok {
			a.waited += d
		}
	}
}

func (m *meter) collect(to chan<- prometheus.Metric) {
	m.latency.Collect(to)
	for i, name := range routes {
		for status := range m.requests[i] {
			// A failure of ours must be seen from the first on: a series that
			// begins with it has no rate.
			if n := m.requests[i][status].Load(); n > 0 || status == http.StatusInternalServerError {
				to <- counter(descRequests, n, name, strconv.Itoa(status))
			}
		}
	}
}

// metered is the answer to one request, as it is written.
type metered struct {
	http.ResponseWriter
	status        int // zero until it is written
	bytes         int64
	began, waited time.Duration
}

func (a *metered) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK { // those below only announce the answer
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *metered) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(b)
	a.bytes += int64(n)
	return n, err
}

// ReadFrom leaves the copying of a file to the connection, which can have the
// kernel do it.
func (a *metered) ReadFrom(from io.Reader) (int64, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := io.Copy(a.ResponseWriter, from)
	a.bytes += n
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (a *metered) Unwrap() http.ResponseWriter { return a.ResponseWriter }
