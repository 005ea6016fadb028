package turn

import "testing"

// TestClients has clients of other projects, and browsers with credentials that expire, use
// one server at a time. The server sends no packet to any other address than that of a
// client, not even to itself.
func TestClients(t *testing.T) {
	t.Parallel()
	s := startServer(t, "other")
	wire := startCapture(t, "other")
	t.Run("parallel", func(t *testing.T) {
		for _, part := range []struct {
			name string
			run  func(*testing.T, *server)
		}{
			{"turnutils_stunclient", stunClient},
			{"turnutils_uclient", coturnClient},
			{"turnutils_uclient with foreign peers", foreignPeersAreRefused},
			{"pion", pionClient},
			{"expired credentials", expiredCredentials},
		} {
			t.Run(part.name, func(t *testing.T) {
				t.Parallel()
				part.run(t, s)
			})
		}
	})
	wantOnlyTo(t, wire, "carol", "dave", "proxy")
}
