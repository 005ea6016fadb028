package tlsmgr

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"
)

const (
	// hstsShortMaxAge is short, for whoever is still trying things out.
	hstsShortMaxAge = 24 * time.Hour
	// hstsLongMaxAge is for a name that has had valid certificates for hstsTrust.
	hstsLongMaxAge    = 365 * 24 * time.Hour
	hstsEligibleAfter = 30 * 24 * time.Hour
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
			if age := m.hstsMaxAge(hostOf(r.Host), time.Now()); age > 0 {
				w.Header().Set("Strict-Transport-Security", "max-age="+strconv.Itoa(int(age/time.Second)))
			}
		}
		next.ServeHTTP(w, r)
	})
}

// hstsMaxAge is zero for addresses, which browsers ignore, and for certificates that
// no browser trusts: nobody could pass the warning any more.
func (m *managed) hstsMaxAge(name string, now time.Time) time.Duration {
	cert, _ := m.certs.pick(name, now)
	if isIP(name) || !m.settings.publiclyTrusted || !isValidAt(cert, now) {
		return 0
	}
	if m.certs.current.Load().hstsEligible[name] {
		return hstsLongMaxAge
	}
	return hstsShortMaxAge
}

// hstsSaveInterval is how much served time may be lost by a crash.
const hstsSaveInterval = 10 * time.Minute

// hstsEligibility is for how long a name has been served with valid certificates, by
// programs that ran: what was not served proves nothing.
type hstsEligibility struct {
	Seconds      int64
	countedUntil time.Time // up to when; zero: not in this run
	saved        int64     // the seconds that are on the disk
}

// updateHSTSEligibility counts on. A certificate that ends begins the count anew.
func (sc *scheduler) updateHSTSEligibility(ctx context.Context, w *nameWorker, now time.Time) {
	cert, _ := sc.certs.pick(w.name, now)
	s := &w.hsts
	switch {
	case !sc.settings.publiclyTrusted:
		return
	case cert == nil || now.After(cert.Leaf.NotAfter):
		*s = hstsEligibility{saved: s.saved}
	case !isValidAt(cert, now):
		s.countedUntil = time.Time{} // not begun: the clock may just not be set yet
	case s.countedUntil.IsZero():
		s.countedUntil = now
	case s.Seconds < int64(hstsEligibleAfter/time.Second):
		whole := now.Sub(s.countedUntil).Truncate(time.Second)
		s.Seconds += int64(whole / time.Second)
		s.countedUntil = s.countedUntil.Add(whole)
	}
	sc.certs.setHSTSEligible(w.name, time.Duration(s.Seconds)*time.Second >= hstsEligibleAfter)
	sc.saveHSTSEligibility(ctx, w)
}

// saveHSTSEligibility writes the count down now and then, and when it has begun anew.
func (sc *scheduler) saveHSTSEligibility(ctx context.Context, w *nameWorker) {
	s := &w.hsts
	unsaved := time.Duration(s.Seconds-s.saved) * time.Second
	if done := s.Seconds >= int64(hstsEligibleAfter/time.Second); unsaved == 0 || unsaved > 0 && unsaved < hstsSaveInterval && !done {
		return
	}
	if err := sc.schedules.writeJSON(ctx, w.name, hstsEligibilitySuffix, s); err != nil {
		sc.log.Debug("remember for how long the name is served", "name", w.name, "err", err)
		return
	}
	s.saved = s.Seconds
}

const hstsEligibilitySuffix = ".served.json"

// loadHSTSEligibility takes up the count of earlier runs. It writes nothing.
func (sc *scheduler) loadHSTSEligibility(w *nameWorker, now time.Time) {
	if err := sc.schedules.readJSON(w.name, hstsEligibilitySuffix, &w.hsts); err != nil && !errors.Is(err, errNoStateDir) {
		sc.log.Debug("read for how long the name was served", "name", w.name, "err", err)
	}
	w.hsts.Seconds = max(w.hsts.Seconds, 0)
	w.hsts.saved = w.hsts.Seconds
	cert, _ := sc.certs.pick(w.name, now)
	sc.certs.setHSTSEligible(w.name, isValidAt(cert, now) && time.Duration(w.hsts.Seconds)*time.Second >= hstsEligibleAfter)
}
