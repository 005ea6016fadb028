package proxywarn

import (
	"net/http"
	"testing"
)

func TestCameOverHTTPS(t *testing.T) {
	for _, row := range []struct {
		field, value string
		want         bool
	}{
		{"X-Forwarded-Proto", "https", true},
		{"X-Forwarded-Proto", "HTTPS, http", true},
		{"X-Forwarded-Proto", "http", false},
		{"X-Forwarded-Proto", "http, https", false},
		{"Forwarded", "for=192.0.2.1;proto=https", true},
		{"Forwarded", `for=192.0.2.1;proto="https"`, true},
		{"Forwarded", "for=192.0.2.1;proto=http", false},
		{"Cf-Visitor", `{"scheme":"https"}`, true},
		{"Cf-Visitor", `{"scheme":"http"}`, false},
		{"X-Forwarded-Ssl", "on", true},
		{"Front-End-Https", "On", true},
		{"Other", "https", false},
	} {
		if got := cameOverHTTPS(http.Header{row.field: {row.value}}); got != row.want {
			t.Errorf("%s: %s: got %v, want %v", row.field, row.value, got, row.want)
		}
	}
}
