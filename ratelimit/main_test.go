package ratelimit_test

import (
	"testing"

	"go.uber.org/goleak"
)

// net/http closes a connection half a second after some responses, which is longer than goleak
// waits.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}
