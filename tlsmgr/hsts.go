package tlsmgr

import (
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
	since := m.chain.current.Load().since[name]
	if since.IsZero() || now.Sub(since) < hstsTrust {
		return hstsFirst
	}
	return hstsProved
}

// sinceFile remembers since when a name is served with valid certificates.
type sinceFile struct{ Since time.Time }

// serving keeps count of how long valid certificates have been served.
func (v *supervisor) serving(t *task, now time.Time) {
	cert, _ := v.chain.pick(t.name, now)
	since := t.get().since
	switch valid := inForce(cert, now); {
	case valid && since.IsZero():
		v.setSince(t, v.rememberedSince(t, now))
	case !valid && !since.IsZero():
		v.setSince(t, time.Time{})
	}
}

// rememberedSince is from before the last restart, if that is known.
func (v *supervisor) rememberedSince(t *task, now time.Time) time.Time {
	var f sinceFile
	if err := v.records.readFile(t.name, ".since.json", &f); err != nil && !errors.Is(err, errNoState) {
		v.log.Debug("read since when the name is served", "name", t.name, "err", err)
	}
	if f.Since.IsZero() || f.Since.After(now) {
		return now
	}
	return f.Since
}

func (v *supervisor) setSince(t *task, since time.Time) {
	t.set(func(st *taskState) { st.since = since })
	v.chain.setSince(t.name, since)
	if err := v.records.writeFile(t.name, ".since.json", sinceFile{since}); err != nil {
		v.log.Debug("remember since when the name is served", "name", t.name, "err", err)
	}
}
