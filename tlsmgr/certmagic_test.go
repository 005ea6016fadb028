package tlsmgr

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestProfileRequested(t *testing.T) {
	first, second := &caClient{}, &caClient{}
	for _, tt := range []struct {
		why, wanted, name string
		ca                *caClient
		listed            string
		want              string
	}{
		{"default", "", "one.example", first, "shortlived", ""},
		{"IP address", "", "192.0.2.1", first, "shortlived", "shortlived"},
		{"IP address, profile not offered", "", "192.0.2.1", first, "classic", ""},
		{"configured profile", "classic", "192.0.2.1", first, "shortlived", "classic"},
		{"configured profile, offered by the fallback CA", "classic", "one.example", second, "classic", "classic"},
		{"configured profile, not offered by the fallback CA", "classic", "one.example", second, "other", ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			e := &certmagicEngine{settings: &settings{cas: []*caClient{first, second}, Config: Config{ACME: ACME{Profile: tt.wanted}}}}
			d := new(directory)
			d.Meta.Profiles = map[string]string{tt.listed: ""}
			if got := e.profile(order{name: tt.name, ca: tt.ca, directory: d}); got != tt.want {
				t.Errorf("got profile %q, want %q", got, tt.want)
			}
		})
	}
}

// A timeout during validation counts as a failed validation. A timeout before any
// challenge, or a canceled order, does not.
func TestChallengeTimeout(t *testing.T) {
	expired, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		why   string
		ctx   context.Context
		begun int
		want  outcome
	}{
		{"timeout during validation", expired, 1, validationFailed},
		{"timeout before any challenge", expired, 0, caUnavailable},
		{"canceled", canceled, 1, caUnavailable},
		{"error before the timeout", t.Context(), 1, caUnavailable},
	} {
		e := timedOut(tt.ctx, tt.begun, &orderError{outcome: caUnavailable, err: errors.New("pending"), retryAfter: time.Hour})
		if e.outcome != tt.want || e.retryAfter != time.Hour {
			t.Errorf("%s: got %+v, want outcome %v", tt.why, e, tt.want)
		}
	}
}
