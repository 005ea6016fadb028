package config

import (
	"strings"
	"testing"
)

func TestMask(t *testing.T) {
	for value, want := range map[string]string{
		"":                                      "",
		"redis://host:6379":                     "redis://host:6379",
		"redis://:geheim@host":                  "redis://:***@host",
		"rediss://user:geheim@h1,h2/3":          "rediss://user:***@h1,h2/3",
		"redis://geheim@host":                   "redis://***@host",
		"redis://user:gehe@im@host":             "redis://user:***@host",
		"redis://a:geheim@h,redis://b:geheim@i": "redis://a:***@i",
		"redis://h/?password=geheim&db=1":       "redis://h/?password=***&db=1",
		"https://u:geheim@ca.example/dir":       "https://u:***@ca.example/dir",
		"turn:user:geheim@turn.example":         "turn:***@turn.example",
		"TURN:h?credential=geheim":              "TURN:h?credential=***",
		"redis://u:gehe\nim@h":                  "redis://u:***@h",
		"me@example.org":                        "me@example.org",
		"/etc/inbox/a@b":                        "/etc/inbox/a@b",
		"https://a.example,https://b.example":   "https://a.example,https://b.example",
		"[2001:db8::1]:443":                     "[2001:db8::1]:443",
	} {
		if got := Mask(value); got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
}

// TestErrorsMaskPasswords gives each option that takes a text a URL with a password. No error
// contains it.
func TestErrorsMaskPasswords(t *testing.T) {
	for _, g := range Groups() {
		for _, o := range g.Options {
			if o.Value == "" || o.Name == "client-header" {
				continue
			}
			for _, value := range []string{"redis://u:geheim@h:x", "x://:geheim@h", "https://a:geheim@b,https://c:geheim@d"} {
				if _, err := resolve(Facts{}, "-"+o.Name, value); err != nil && strings.Contains(err.Error(), "geheim") {
					t.Errorf("-%s: the error contains the password: %v", o.Name, err)
				}
			}
		}
	}
}

// FuzzMask checks that a password in a URL disappears.
func FuzzMask(f *testing.F) {
	f.Add("user", "pass", "host")
	f.Add("", "a@b/c?d#e", "h/1")
	f.Fuzz(func(t *testing.T, user, password, host string) {
		password += "\x01geheim\x01"
		if got := Mask("redis://" + user + ":" + password + "@" + host); strings.Contains(got, "\x01geheim\x01") && !strings.Contains(user+host, "geheim") {
			t.Errorf("got %q", got)
		}
	})
}
