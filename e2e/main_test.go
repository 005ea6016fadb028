package e2e

import (
	"testing"
)

// program is the path of the server's binary, built once for all tests.
var program string

func TestMain(m *testing.M) {
	Main(m, &program)
}

// startInbox starts the real server on a free port and stops it at the end of the test.
func startInbox(t *testing.T, args ...string) *Server {
	t.Helper()
	s, err := Start(program, append([]string{"-bind", "127.0.0.1:0", "-state", t.TempDir()}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}
