package metrics

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"inbox/inbox"
	"inbox/internal/websocket"

	"github.com/prometheus/client_golang/prometheus"
)

var descRequests = desc("requests_total", "Finished requests, by the status of the response; 499 is a client that disconnected.", "route", "code")

// Route is a kind of request. There is a fixed number of them, so that what a client writes
// into a path never becomes a label.
type Route uint8

// The routes.
const (
	routeReceive Route = iota
	routeEvents
	routeWebSocket
	routeSend
	routeAck
	routeDelete
	routeInbox
	routeICE
	routeHealth
	routeReady
	routeAddresses
	routeGuestPass
	RoutePages    // and all other paths
	RouteRedirect // all requests on port 80

	// Those of -compat.

	RoutePeerJSSocket
	RoutePeerJSInfo
	RoutePeerJSID
	RoutePeerJSPeers
	RouteTopics
)

// routeNames are the labels.
var routeNames = [...]string{
	"GET /inbox", "GET /inbox (SSE)", "GET /inbox (WebSocket)", "POST /inbox", "POST /inbox/ack", "DELETE /inbox", "/inbox", "/ice", "/healthz", "/readyz", "/addresses", "/guest-pass", "pages", "port 80",
	"/peerjs", "/peerjs/", "/KEY/id", "/KEY/peers", "/topics",
}

// String returns the label of a route.
func (r Route) String() string { return routeNames[r] }

// Routes has the paths of the main listener that are not pages.
type Routes struct{ Mailbox, Ack, ICE, Health, Ready, Addresses, GuestPass string }

// Of returns the route of a request.
func (p *Routes) Of(r *http.Request) Route {
	switch r.URL.Path {
	case p.Mailbox:
		switch r.Method {
		case http.MethodGet:
			switch {
			case websocket.IsUpgrade(r):
				return routeWebSocket
			case inbox.AcceptsEvents(r):
				return routeEvents
			}
			return routeReceive
		case http.MethodPost:
			return routeSend
		case http.MethodDelete:
			return routeDelete
		}
		return routeInbox
	case p.Ack:
		return routeAck
	case p.ICE:
		return routeICE
	case p.Health:
		return routeHealth
	case p.Ready:
		return routeReady
	case p.Addresses:
		return routeAddresses
	case p.GuestPass:
		return routeGuestPass
	}
	return RoutePages
}

const (
	// statusClientClosed is the status of a request whose client disconnected before the
	// response, or whose stream was reset: its handler panicked with http.ErrAbortHandler.
	statusClientClosed = 499
	maxStatus          = 600
)

// latencyBuckets are upper bounds in seconds: a relayed message takes about 20 µs, and a body
// can take 30 s.
var latencyBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// Meter counts and times requests. Its middleware reads the clock twice per request, so a
// server should not build one that nothing reads. All methods can be called concurrently.
type Meter struct {
	start    time.Time // reading the clock relative to it costs half
	requests [len(routeNames)][maxStatus]atomic.Int64
	latency  *prometheus.HistogramVec
	observe  [len(routeNames)]prometheus.Observer
	pool     sync.Pool // of *metered
	log      LogFunc
}

// LogFunc logs a finished request, with the status and size of its response.
type LogFunc func(r *http.Request, route Route, status int, took time.Duration, bytes int64)

// NewMeter returns a meter that calls log, unless it is nil, for each finished request.
func NewMeter(log LogFunc) *Meter {
	m := &Meter{start: time.Now(), log: log}
	m.latency = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "inbox_request_duration_seconds", Buckets: latencyBuckets,
		Help: "Duration of requests, without the time they waited for a message or a recipient; excludes the statuses 429 and 499.",
	}, []string{"route"})
	for i, name := range routeNames {
		m.observe[i] = m.latency.WithLabelValues(name)
	}
	m.pool.New = func() any { return new(metered) }
	return m
}

// Handler returns next with its requests metered, by the route that routeFor returns.
func (m *Meter) Handler(routeFor func(*http.Request) Route, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := m.pool.Get().(*metered)
		*a = metered{ResponseWriter: w, began: time.Since(m.start)}
		defer m.finish(a, r, routeFor(r))
		next.ServeHTTP(a, r)
	})
}

// finish is deferred, to count panics, which it passes on.
func (m *Meter) finish(a *metered, r *http.Request, route Route) {
	failure := recover()
	status := a.status
	switch {
	case failure == http.ErrAbortHandler:
		status = statusClientClosed
	case failure != nil:
		status = http.StatusInternalServerError
	case status == 0:
		status = http.StatusOK // a handler that writes nothing responds with an empty 200
	}
	took := time.Since(m.start) - a.began
	m.requests[route][min(status, maxStatus-1)].Add(1)
	if status != http.StatusTooManyRequests && status != statusClientClosed {
		m.observe[route].Observe((took - a.waited).Seconds())
	}
	if m.log != nil {
		m.log(r, route, status, took, a.bytes)
	}
	a.ResponseWriter = nil
	m.pool.Put(a)
	if failure != nil {
		panic(failure)
	}
}

// OnWait excludes time that a request waited from its duration. For inbox.Config.
func (m *Meter) OnWait(w http.ResponseWriter, d time.Duration) {
	if a, ok := w.(*metered); ok {
		a.waited += d
	}
}

// Responses returns the number of responses with the status.
func (m *Meter) Responses(status int) (n int64) {
	for i := range m.requests {
		n += m.requests[i][status].Load()
	}
	return n
}

// Collect sends the metrics.
func (m *Meter) Collect(to chan<- prometheus.Metric) {
	m.latency.Collect(to)
	for i, name := range routeNames {
		for status := range m.requests[i] {
			// Status 500 is exported from the start, because a rate needs a sample
			// from before the first failure.
			if n := m.requests[i][status].Load(); n > 0 || status == http.StatusInternalServerError {
				to <- counter(descRequests, n, name, strconv.Itoa(status))
			}
		}
	}
}

// metered is a response that records its status and size.
type metered struct {
	http.ResponseWriter
	status        int // zero until it is written
	bytes         int64
	began, waited time.Duration
}

func (a *metered) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK { // lower ones are informational
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

// ReadFrom lets the connection copy a file, which the kernel can do.
func (a *metered) ReadFrom(from io.Reader) (int64, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := io.Copy(a.ResponseWriter, from)
	a.bytes += n
	return n, err
}

// Hijack records the status of a connection that changes its protocol.
func (a *metered) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err == nil {
		a.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

// Unwrap lets http.ResponseController reach the connection.
func (a *metered) Unwrap() http.ResponseWriter { return a.ResponseWriter }
