package ice

import (
	"strings"
	"testing"
)

// acceptedURLs are in the form in which they are passed on.
var acceptedURLs = []string{
	"stun:h", "stuns:h", "stun:stun.example.org", "stun:stun.example.org.", "stun:h:1", "stun:h:3478", "stun:h:65535",
	"stun:192.0.2.1", "stun:192.0.2.1:3478", "stun:[2001:db8::1]", "stun:[2001:db8::1]:3478", "stun:[::ffff:192.0.2.1]",
	"stun:my_host", "stun:xn--mnchen-3ya.example", "stun:EXAMPLE.org", "stun:1stun.example", "stun:3com",
	"turn:h", "turns:h", "turn:h:3478?transport=udp", "turn:h?transport=tcp", "turns:[::1]:5349?transport=tcp", "turns:h?transport=udp",
}

var refusedURLs = map[string]string{
	"":           "stun:",
	"h":          "stun:",
	":h":         "stun:",
	"http:h":     "stun:",
	"stunx:h":    "stun:",
	"stun":       "stun:",
	" stun:h":    "stun:",
	"stun:":      "a host",
	"stun:.":     "a host",
	"stun::3478": "a host",
	"stun://h":   "no slashes", "stun:///h": "no slashes",
	"stun:h/": "character", "stun:h/path": "character", "stun:h:3478/": "port",
	"stun:h:": "port", "stun:h:0": "port", "stun:h:99999": "port", "stun:h:65536": "port", "stun:h:-1": "port", "stun:h:+1": "port",
	"stun:h:03478": "port", "stun:h:3478x": "port", "stun:h: 3478": "port", "stun:h:٣": "port", "stun:h:0x10": "port",
	"stun:h:18446744073709551617": "port",
	"stun:2001:db8::1":            "brackets", "stun:::1": "brackets", "stun:h:1:2": "brackets",
	"stun:[": "IPv6", "stun:[]": "IPv6", "stun:[::1": "IPv6", "stun:[192.0.2.1]": "IPv6", "stun:[h]": "IPv6", "stun:[fe80::1%eth0]": "IPv6",
	"stun:[fe80::1%25eth0]": "IPv6", "stun:[v1.x]": "IPv6", "stun:[2001:db8::1]3478": "after the brackets", "stun:[::1]:": "port", "stun:[::1]:0": "port",
	"stun:h]": "character", "stun:a[::1]": "brackets", "stun:a[b]": "character", "stun:[[::1]]": "IPv6",
	"stun:u@h": "user", "turn:u:p@h": "user", "turn:h?transport=udp@x": "user", "stun:h#f": "fragment", "turn:h?transport=udp#f": "fragment",
	"stun:a b": "character", "stun:h\t": "character", "stun:h ": "character", "stun:h\n": "character", "stun:a%20b": "character", "stun:h%": "character",
	"stun:a\\b": "character", "stun:a,b": "character", "stun:a;b": "character", "stun:*.h": "character", "stun:$HOST": "character", "stun:<host>": "character",
	"stun:münchen.example": "ASCII", "stun:\xff": "ASCII", "stun:h\u200b": "ASCII", "stun:。": "ASCII",
	"stun:.h": "each part", "stun:a..b": "each part", "stun:h..": "each part", "stun:-h": "each part", "stun:h-": "each part", "stun:a.-b.c": "each part",
	"stun:" + strings.Repeat("a", 64):   "each part",
	"stun:" + strings.Repeat("a.", 128): "253",
	"stun:1":                            "IPv4", "stun:1.2.3": "IPv4", "stun:1.2.3.256": "IPv4", "stun:1.2.3.4.5": "IPv4", "stun:192.0.2.1.": "IPv4", "stun:192.0.2.01": "IPv4",
	"stun:0x7f.1": "IPv4", "stun:0x7f000001": "IPv4", "stun:h.0x": "IPv4", "stun:h.5": "IPv4",
	"stun:h?transport=udp": "no ?transport=", "stuns:h?transport=tcp": "no ?transport=", "stun:h?": "no ?transport=", "stun:h?foo": "no ?transport=",
	"turn:h?": "transport=udp", "turn:h?foo": "transport=udp", "turn:h?transport": "transport=udp", "turn:h?transport=": "transport=udp",
	"turn:h?transport=sctp": "transport=udp", "turn:h?transport=tls": "transport=udp", "turn:h?transport=udp&x=y": "transport=udp",
	"turn:h?x=y&transport=udp": "transport=udp", "turn:h?transport=udp?": "transport=udp", "turn:h?transport=udp,tcp": "transport=udp",
	"turn:h?transport=udp ": "transport=udp", "turn:h?transport%3Dudp": "transport=udp", "turn:h?/transport=udp": "transport=udp",
	"turn:?transport=udp": "a host", "turn:h:?transport=udp": "port", "turn:h:0?transport=udp": "port",
}

func TestParseICEURL(t *testing.T) {
	for _, url := range acceptedURLs {
		if got, err := parseURL(url); err != nil || got != url {
			t.Errorf("%q: got %q, %v, want it unchanged", url, got, err)
		}
	}
	for url, want := range map[string]string{
		"STUN:h": "stun:h", "Turns:H:5349?Transport=TCP": "turns:H:5349?transport=tcp",
	} {
		if got, err := parseURL(url); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", url, got, err, want)
		}
	}
	for url, why := range refusedURLs {
		if got, err := parseURL(url); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: got %q, %v, want an error with %q", url, got, err, why)
		}
	}
}

// FuzzICEURL checks that an accepted URL stands for itself.
func FuzzICEURL(f *testing.F) {
	for _, url := range acceptedURLs {
		f.Add(url)
	}
	for url := range refusedURLs {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		parsed, err := parseURL(url)
		if err != nil {
			return
		}
		if again, err := parseURL(parsed); err != nil || again != parsed || !strings.EqualFold(parsed, url) {
			t.Errorf("%q became %q, which became %q, %v", url, parsed, again, err)
		}
	})
}
