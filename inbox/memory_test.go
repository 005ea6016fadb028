package inbox_test

import (
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
	"inbox/inbox/storetest"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	storetest.Run(t, storetest.Engine{
		New:    func(t *testing.T, limits inbox.Limits) inbox.Store { return inbox.NewMemory(limits) },
		Bubble: synctest.Test,
		Tick:   time.Second,
	})
}
