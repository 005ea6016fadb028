package tlsmgr

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"
)

const (
	// hstsFirst is short, for whoever is still trying things out.
	hstsFirst = 24 * time.Hour
	// hstsProved is for a name that has had valid certificates for hstsTrust.
	hstsProved = 365 * 24 * time.Hour
	hstsTrust  = 30 * 24 * time.Hour
)

// HSTS tells browsers to come back over https alone, while the source serves
// the host with a certificate that they can trust. Sources without domains
// leave next as it is.
func HSTS(s Source, next http.Handler) http.Handler {
	m, ok := s.(*managed)
	if !ok {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil {
			if age := m.hsts(hostOf(r.Host), time.Now()); age > 0 {
				w.Header().Set("Strict-Transport-Security", "max-age="+strconv.Itoa(int(age/time.Second)))
			}
		}
		next.ServeHTTP(w, r)
	})
}

// hsts is zero for addresses, which browsers ignore, and for certificates that
// no browser trusts: nobody could pass the warning any more.
func (m *managed) hsts(name string, now time.Time) time.Duration {
	cert, _ := m.chain.pick(name, now)
	if isIP(name) || !m.set.public || !inForce(cert, now) {
		return 0
	}
	if m.chain.current.Load().proved[name] {
		return hstsProved
	}
	return hstsFirst
}

// keepServed is how much served time may be lost by a crash.
const keepServed = 10 * time.Minute

// servedTime is for how long a name has been served with valid certificates, by
// programs that ran: what was not served proves nothing.
type servedTime struct {
	Seconds int64
	counted time.Time // up to when; zero: not in this run
	kept    int64     // the seconds that are on the disk
}

// serving counts on. A certificate that ends begins the count anew.
func (v *supervisor) serving(ctx context.Context, t *task, now time.Time) {
	cert, _ := v.chain.pick(t.name, now)
	s := &t.served
	switch {
	case !v.set.public:
		return
	case cert == nil || now.After(cert.Leaf.NotAfter):
		*s = servedTime{kept: s.kept}
	case !inForce(cert, now):
		s.counted = time.Time{} // not begun: the clock may just not be set yet
	case s.counted.IsZero():
		s.counted = now
	case s.Seconds < int64(hstsTrust/time.Second):
		whole := now.Sub(s.counted).Truncate(time.Second)
		s.Seconds += int64(whole / time.Second)
		s.counted = s.counted.Add(whole)
	}
	v.chain.setProved(t.name, time.Duration(s.Seconds)*time.Second >= hstsTrust)
	v.keepServed(ctx, t)
}

// keepServed writes the count down now and then, and when it has begun anew.
func (v *supervisor) keepServed(ctx context.Context, t *task) {
	s := &t.served
	news := time.Duration(s.Seconds-s.kept) * time.Second
	if done := s.Seconds >= int64(hstsTrust/time.Second); news == 0 || news > 0 && news < keepServed && !done {
		return
	}
	if err := v.records.writeFile(ctx, t.name, servedEnding, s); err != nil {
		v.log.Debug("remember for how long the name is served", "name", t.name, "err", err)
		return
	}
	s.kept = s.Seconds
}

const servedEnding = ".served.json"

// recallServed takes up the count of earlier runs. It writes nothing.
func (v *supervisor) recallServed(t *task, now time.Time) {
	if err := v.records.readFile(t.name, servedEnding, &t.served); err != nil && !errors.Is(err, errNoState) {
		v.log.Debug("read for how long the name was served", "name", t.name, "err", err)
	}
	t.served.Seconds = max(t.served.Seconds, 0)
	t.served.kept = t.served.Seconds
	cert, _ := v.chain.pick(t.name, now)
	v.chain.setProved(t.name, inForce(cert, now) && time.Duration(t.served.Seconds)*time.Second >= hstsTrust)
}
