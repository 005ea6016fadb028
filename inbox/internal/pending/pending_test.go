package pending

import (
	"context"
	"errors"
	"testing"
)

func TestCheckEndsWhatIsNoLongerAllowed(t *testing.T) {
	var s Set
	s.Check() // of an empty set
	refused := errors.New("refused")
	contexts := map[error]context.Context{}
	for _, err := range []error{nil, refused} {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer s.Add(cancel, func() error { return err })()
		contexts[err] = ctx
	}
	ended, cancel := context.WithCancelCause(t.Context())
	s.Add(cancel, func() error { return refused })()
	s.Check()
	if context.Cause(contexts[nil]) != nil || context.Cause(contexts[refused]) != refused || ended.Err() != nil {
		t.Errorf("got %v, %v and %v", context.Cause(contexts[nil]), context.Cause(contexts[refused]), ended.Err())
	}
}

func TestDoneForgetsTheOperation(t *testing.T) {
	var s Set
	done := s.Add(func(error) {}, func() error { return nil })
	done()
	done()
	if len(s.all) != 0 {
		t.Errorf("got %d operations, want none", len(s.all))
	}
}
