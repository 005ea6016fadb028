package acme

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/tlstest"
	"inbox/tlsmgr/storage"
)

// newTestDryRun returns options of a dry run with a fake engine at a real server.
func newTestDryRun(t *testing.T, e *fakeEngine) Options {
	t.Helper()
	log, _ := tlstest.NewLog()
	server := tlstest.NewCA(t, nil)
	e.challengeTypeList = []ChallengeType{{TLSALPN01, 1}, {HTTP01, 1}}
	return Options{
		Config:  Config{Engine: func(*Settings) (Engine, error) { return e, nil }, Agreed: true, CA: CA{URL: server.URL, RootsFile: server.RootsFile}},
		Domains: []string{testName}, Storage: storage.NewDirectory(t.TempDir(), log), Logger: log,
	}
}

func dryRun(t *testing.T, o Options) error {
	t.Helper()
	d, err := NewDryRun(o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	return d.Order(t.Context())
}

// Failed validations of dry runs at the first CA count in the stored schedule, which
// otherwise does not change.
func TestDryRunCountsFailedValidations(t *testing.T) {
	e := &fakeEngine{onOrder: orderFailsValidation}
	o := newTestDryRun(t, e)
	for range 2 {
		if err := dryRun(t, o); asOrderError(err).Outcome != schedule.ValidationFailed {
			t.Fatalf("got %v, want a failed validation", err)
		}
	}
	if err := dryRun(t, o); !errors.Is(err, errValidationBudget) || len(e.orderTimes) != 4 {
		t.Errorf("got %v after %d orders, want the budget exhausted after 4", err, len(e.orderTimes))
	}
	log, _ := tlstest.NewLog()
	state, _, err := (records{storage: o.Storage, cas: []string{o.CA.URL}, log: log}).load(t.Context(), testName, time.Now())
	if err != nil || len(state.FailedValidations) != 4 || state.Unsettled != 0 || state.Phase != schedule.Idle || !state.NextAttempt.IsZero() {
		t.Errorf("got schedule %+v, %v, want four failed validations alone", state, err)
	}
}

// With a staging CA, dry runs order there and do not require storage.
func TestDryRunPrefersStagingCA(t *testing.T) {
	o := newTestDryRun(t, &fakeEngine{})
	o.StagingCA = CA{URL: o.CA.URL + "?staging", RootsFile: o.CA.RootsFile}
	o.Storage = nil
	o.Config.Engine = func(*Settings) (Engine, error) {
		return &fakeEngine{challengeTypeList: []ChallengeType{{HTTP01, 1}}, certs: map[string]*Certificate{}, onOrder: func(o Order) (int, error) {
			if !strings.HasSuffix(o.CA.URL, "?staging") {
				t.Errorf("got an order at %s, want the staging CA", o.CA.URL)
			}
			return 0, errors.New("discarded")
		}}, nil
	}
	if err := dryRun(t, o); err == nil || !strings.Contains(err.Error(), "discarded") {
		t.Errorf("got %v, want the error of the engine", err)
	}
}

// Without storage, failed validations at the CA cannot be counted.
func TestDryRunNeedsStorage(t *testing.T) {
	o := newTestDryRun(t, &fakeEngine{})
	o.Storage = nil
	if _, err := NewDryRun(o); err == nil || errors.Is(err, ErrUsage) {
		t.Errorf("got %v, want an error that is not ErrUsage", err)
	}
}

// While another process is ordering for the name, a dry run waits until its context ends.
func TestDryRunWaitsForLock(t *testing.T) {
	o := newTestDryRun(t, &fakeEngine{})
	lease, err := o.Storage.TryLock(t.Context(), recordKey(testName, ".lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	d, err := NewDryRun(o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Order(ctx); err == nil || !strings.Contains(err.Error(), "another process is ordering") {
		t.Errorf("got %v, want that another process is ordering", err)
	}
}
