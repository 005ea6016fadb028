package inbox_test

import (
	"net/http/httptest"
	"testing"

	"inbox/inbox"
)

func TestCanWait(t *testing.T) {
	for _, row := range []struct {
		method, target string
		want           bool
	}{
		{"GET", "/inbox", true},
		{"POST", "/inbox?to=bob", false},
		{"POST", "/inbox?to=bob&wait=5", true},
		{"POST", "/inbox?wait=5&to=bob", true},
		{"POST", "/inbox?to=wait=5", false},
		{"POST", "/inbox?to=bob&await=5", false},
		{"DELETE", "/inbox?wait=5", false},
	} {
		if got := inbox.CanWait(httptest.NewRequest(row.method, row.target, nil)); got != row.want {
			t.Errorf("%s %s: got %v, want %v", row.method, row.target, got, row.want)
		}
	}
}
