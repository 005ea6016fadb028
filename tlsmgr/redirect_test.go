package tlsmgr

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestRedirect(t *testing.T) {
	for _, tt := range []struct {
		name, method, host, target string
		port                       int
		status                     int
		location                   string
	}{
		{"page", "GET", "one.example", "/receive.html?x=1&y=%20", 443, 308, "https://one.example/receive.html?x=1&y=%20"},
		{"HEAD", "HEAD", "one.example", "/", 443, 308, "https://one.example/"},
		{"own port", "GET", "one.example:8080", "/", 8443, 308, "https://one.example:8443/"},
		{"capitals", "GET", "ONE.Example.", "/", 443, 308, "https://one.example/"},
		{"IPv6", "GET", "[2001:db8:0::1]:80", "/", 443, 308, "https://[2001:db8::1]/"},
		{"IPv6, own port", "GET", "[2001:db8::1]", "/", 8443, 308, "https://[2001:db8::1]:8443/"},
		{"two slashes", "GET", "one.example", "//evil.example/", 443, 308, "https://one.example//evil.example/"},
		{"mailbox", "GET", "one.example", "/inbox", 443, 403, ""},
		{"mailbox, written otherwise", "GET", "one.example", "/%69nbox", 443, 403, ""},
		{"message", "POST", "one.example", "/inbox?to=alice", 443, 403, ""},
		{"servers", "GET", "one.example", "/ice", 443, 403, ""},
		{"a token of no order", "GET", "one.example", tokenPath + "token", 443, 404, ""},
		{"other method", "DELETE", "one.example", "/", 443, 403, ""},
		{"other host", "GET", "evil.example", "/", 443, 421, ""},
		{"no host", "GET", "", "/", 443, 421, ""},
		{"other host's mailbox", "POST", "evil.example", "/inbox", 443, 421, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(tt.method, tt.target, nil)
			r.Host = tt.host
			Redirect([]string{"One.example", "2001:db8::1"}, tt.port).ServeHTTP(w, r)
			if got := w.Header().Get("Location"); w.Code != tt.status || got != tt.location {
				t.Errorf("got %d to %q, want %d to %q", w.Code, got, tt.status, tt.location)
			}
		})
	}
}

// Containers and routers hand port 80 to another one. Who came by it goes to
// 443, since nobody outside knows the port that we listen on.
func TestRedirectBehindMappedPorts(t *testing.T) {
	for _, tt := range []struct {
		host  string
		local int // the port of our listener
		want  string
	}{
		{"one.example", 3080, "https://one.example/"},
		{"one.example:80", 3080, "https://one.example/"},
		{"[2001:db8::1]", 3080, "https://[2001:db8::1]/"},
		{"one.example:3080", 3080, "https://one.example:3000/"},
		{"one.example:8080", 3080, "https://one.example:3000/"},
		{"one.example", 80, "https://one.example:3000/"},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = tt.host
		local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: tt.local}
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
		Redirect([]string{"one.example", "2001:db8::1"}, 3000).ServeHTTP(w, r)
		if got := w.Header().Get("Location"); got != tt.want {
			t.Errorf("%s on port %d: led to %q, want %q", tt.host, tt.local, got, tt.want)
		}
	}
}

func TestCheckHostAllowsHealthChecks(t *testing.T) {
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	health := func(r *http.Request) bool { return r.URL.Path == "/healthz" }
	for target, want := range map[string]int{
		"https://one.example/":      http.StatusNoContent,
		"https://10.0.0.1/healthz":  http.StatusNoContent,
		"https://10.0.0.1/anything": http.StatusMisdirectedRequest,
	} {
		w := httptest.NewRecorder()
		CheckHost([]string{"one.example"}, health, ok).ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
		if w.Code != want {
			t.Errorf("%s: got %d, want %d", target, w.Code, want)
		}
	}
}

// hstsHeader is the field of an answer over TLS, or in clear.
func hstsHeader(s Source, host string, secure bool) string {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "http://"+host+"/", nil)
	if secure {
		r.TLS = new(tls.ConnectionState)
	}
	HSTS(s, http.NotFoundHandler()).ServeHTTP(w, r)
	return w.Header().Get("Strict-Transport-Security")
}

func TestHSTS(t *testing.T) {
	const name, day, year = "one.example.org", "max-age=86400", "max-age=31536000"
	for _, tt := range []struct {
		why     string
		ends    time.Duration // of the certificate; 0: none
		served  time.Duration
		staging bool
		host    string
		secure  bool
		want    string
	}{
		{"at first", time.Hour, time.Hour, false, name, true, day},
		{"after thirty days", time.Hour, 31 * 24 * time.Hour, false, name, true, year},
		{"in clear", time.Hour, 31 * 24 * time.Hour, false, name, false, ""},
		{"ended", -time.Hour, 31 * 24 * time.Hour, false, name, true, ""},
		{"no certificate", 0, 0, false, name, true, ""},
		{"an address", time.Hour, time.Hour, false, "203.0.113.5", true, ""},
		{"another host", time.Hour, time.Hour, false, "two.example.org", true, ""},
		{"from staging", time.Hour, time.Hour, true, name, true, ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			c := acmeConfig(t, name, "203.0.113.5")
			if c.ACME.Staging = tt.staging; tt.staging {
				c.ACME.CA.URL = ""
			}
			m, _ := newTestManaged(t, c)
			if tt.ends != 0 {
				m.certs.setACME(name, certFor(t, name, tt.ends))
				m.certs.setACME("203.0.113.5", certFor(t, "203.0.113.5", tt.ends))
			}
			m.scheduler.workers[0].hsts.Seconds = int64(tt.served / time.Second)
			m.scheduler.updateHSTSEligibility(t.Context(), m.scheduler.workers[0], time.Now())
			if got := hstsHeader(m, tt.host, tt.secure); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestHSTSNeedsDomains(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if got := hstsHeader(s, "localhost", true); got != "" {
		t.Errorf("got %q on a self-signed certificate, want none", got)
	}
}

const hstsDay = 24 * time.Hour

// hstsAfterServing is a source that serves the name for so long from a time on, as one
// run of a program does, and the HSTS at the end.
func hstsAfterServing(t *testing.T, c Config, from time.Time, serveDays int) time.Duration {
	t.Helper()
	m, _ := newTestManaged(t, c)
	worker := m.scheduler.workers[0]
	m.certs.setACME(worker.name, certFor(t, worker.name, 365*hstsDay))
	m.scheduler.loadHSTSEligibility(worker, from)
	for h := range serveDays*24 + 1 {
		m.scheduler.updateHSTSEligibility(t.Context(), worker, from.Add(time.Duration(h)*time.Hour))
	}
	return m.hstsMaxAge(worker.name, from.Add(time.Duration(serveDays)*hstsDay))
}

// Days in which nothing was served prove nothing; those before a pause still do.
func TestHSTSCountsDaysServed(t *testing.T) {
	c, start := acmeConfig(t, "one.example.org"), time.Now()
	for _, tt := range []struct {
		why  string
		day  int
		days int
		want time.Duration
	}{
		{"the first day", 0, 1, hstsShortMaxAge},
		{"after a pause of two months", 60, 1, hstsShortMaxAge},
		{"two weeks later", 62, 14, hstsShortMaxAge},
		{"and two weeks more", 77, 14, hstsLongMaxAge},
		{"after a restart at once", 91, 0, hstsLongMaxAge},
	} {
		if got := hstsAfterServing(t, c, start.Add(time.Duration(tt.day)*hstsDay), tt.days); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.why, got, tt.want)
		}
	}
}

// A certificate that ended begins the count anew, on the disk too.
func TestHSTSRestartsAfterExpiry(t *testing.T) {
	c, start := acmeConfig(t, "one.example.org"), time.Now()
	if got := hstsAfterServing(t, c, start, 31); got != hstsLongMaxAge {
		t.Fatalf("after 31 days: %v, want %v", got, hstsLongMaxAge)
	}
	m, _ := newTestManaged(t, c)
	worker := m.scheduler.workers[0]
	m.certs.setACME(worker.name, certFor(t, worker.name, -time.Hour))
	m.scheduler.updateHSTSEligibility(t.Context(), worker, time.Now())
	if got := hstsAfterServing(t, c, start, 1); got != hstsShortMaxAge {
		t.Errorf("after a certificate that ended: %v, want %v", got, hstsShortMaxAge)
	}
}

// The place for trials neither counts nor takes away what was counted.
func TestHSTSFromStagingCountsNothing(t *testing.T) {
	c, start := acmeConfig(t, "one.example.org"), time.Now()
	hstsAfterServing(t, c, start, 31)
	staging := c
	staging.ACME.CA, staging.ACME.Staging = CA{}, true
	hstsAfterServing(t, staging, start, 31)
	if got := hstsAfterServing(t, c, start, 0); got != hstsLongMaxAge {
		t.Errorf("after a run at staging: %v, want %v", got, hstsLongMaxAge)
	}
}
