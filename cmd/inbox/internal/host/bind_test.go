package host

import (
	"slices"
	"testing"
)

func TestDialAddrs(t *testing.T) {
	for bind, want := range map[string][]string{
		":443":            {"127.0.0.1:443", "[::1]:443"},
		"[::]:443":        {"127.0.0.1:443", "[::1]:443"},
		"0.0.0.0:https":   {"127.0.0.1:443"},
		"192.0.2.1:443":   {"192.0.2.1:443"},
		"localhost:443":   {"localhost:443"},
		"[2001:db8::1]:1": {"[2001:db8::1]:1"},
		"no port":         nil,
	} {
		if got := DialAddrs(bind); !slices.Equal(got, want) {
			t.Errorf("DialAddrs(%q) = %q, want %q", bind, got, want)
		}
	}
}

func TestPort(t *testing.T) {
	for bind, want := range map[string]string{
		":443": "443", ":https": "443", "[::]:80": "80", "127.0.0.1:": "", "": "", "no port": "", "unix:/run/inbox.sock": "", ":99999": "",
	} {
		if got := Port(bind); got != want {
			t.Errorf("Port(%q) = %q, want %q", bind, got, want)
		}
	}
}
