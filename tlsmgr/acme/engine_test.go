package acme

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"inbox/tlsmgr/acme/schedule"
)

// Connection errors and overload count as an unavailable CA and are retried soon.
// Client errors and an invalid certificate count as a rejection.
func TestClassifyOrderError(t *testing.T) {
	for status, want := range map[int]schedule.Outcome{0: schedule.CAUnavailable, 429: schedule.CAUnavailable, 500: schedule.CAUnavailable, 503: schedule.CAUnavailable, 400: schedule.CARejected, 403: schedule.CARejected} {
		if got := Classify(status, 0, io.EOF).Outcome; got != want {
			t.Errorf("status %d: got outcome %d, want %d", status, got, want)
		}
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
		want  schedule.Outcome
	}{
		{"timeout during validation", expired, 1, schedule.ValidationFailed},
		{"timeout before any challenge", expired, 0, schedule.CAUnavailable},
		{"canceled", canceled, 1, schedule.CAUnavailable},
		{"error before the timeout", t.Context(), 1, schedule.CAUnavailable},
	} {
		e := TimedOut(tt.ctx, tt.begun, &OrderError{Outcome: schedule.CAUnavailable, Err: errors.New("pending"), RetryAfter: time.Hour})
		if e.Outcome != tt.want || e.RetryAfter != time.Hour {
			t.Errorf("%s: got %+v, want outcome %v", tt.why, e, tt.want)
		}
	}
}
