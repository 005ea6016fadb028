// Package pending ends operations that wait, when what allowed them no longer does.
package pending

import (
	"context"
	"sync"
)

// Set has the operations that wait. The zero value is empty. All methods can be called
// concurrently.
type Set struct {
	mu  sync.Mutex
	all map[*operation]struct{}
}

type operation struct {
	cancel context.CancelCauseFunc
	check  func() error
}

// Add adds an operation. Check calls cancel with the error of check, if there is one. The caller
// calls done when the operation no longer waits.
func (s *Set) Add(cancel context.CancelCauseFunc, check func() error) (done func()) {
	o := &operation{cancel, check}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[*operation]struct{})
	}
	s.all[o] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.all, o)
	}
}

// Check ends the operations that are no longer allowed.
func (s *Set) Check() {
	for _, o := range s.snapshot() {
		if err := o.check(); err != nil {
			o.cancel(err)
		}
	}
}

// snapshot returns the operations, so that a check delays none that begins or ends.
func (s *Set) snapshot() []*operation {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*operation, 0, len(s.all))
	for o := range s.all {
		all = append(all, o)
	}
	return all
}
