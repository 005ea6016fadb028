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
		{"none", "", "one.example", first, "shortlived", ""},
		{"an address", "", "192.0.2.1", first, "shortlived", "shortlived"},
		{"an address, unknown to the authority", "", "192.0.2.1", first, "classic", ""},
		{"a wish", "classic", "192.0.2.1", first, "shortlived", "classic"},
		{"a wish that the second fulfils", "classic", "one.example", second, "classic", "classic"},
		{"a wish that the second does not know", "classic", "one.example", second, "other", ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			e := &certmagicEngine{settings: &settings{cas: []*caClient{first, second}, Config: Config{ACME: ACME{Profile: tt.wanted}}}}
			d := new(directory)
			d.Meta.Profiles = map[string]string{tt.listed: ""}
			if got := e.profile(order{name: tt.name, ca: tt.ca, directory: d}); got != tt.want {
				t.Errorf("asked for %q, want %q", got, tt.want)
			}
		})
	}
}

// Silence over a challenge counts as a refusal of this way; an authority that
// never came so far, or an order that was broken off, does not.
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
		{"out of time", expired, 1, validationFailed},
		{"out of time before any challenge", expired, 0, caUnavailable},
		{"broken off", canceled, 1, caUnavailable},
		{"failed in time", t.Context(), 1, caUnavailable},
	} {
		e := timedOut(tt.ctx, tt.begun, &orderError{outcome: caUnavailable, err: errors.New("pending"), retryAfter: time.Hour})
		if e.outcome != tt.want || e.retryAfter != time.Hour {
			t.Errorf("%s: got %+v, want the outcome %v", tt.why, e, tt.want)
		}
	}
}
