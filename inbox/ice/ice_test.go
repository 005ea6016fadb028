package ice

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	turnServer := Server{URLs: []string{"turn:t.example:3478?transport=udp", "turns:t.example"}, Username: "u", Credential: "c"}
	rows := []struct {
		spec string
		want []Server
		err  string
	}{
		{"", nil, ""},
		{"stun:a.example", []Server{{URLs: []string{"stun:a.example"}}}, ""},
		{" stun:a , stuns:[::1]:5349", []Server{{URLs: []string{"stun:a"}}, {URLs: []string{"stuns:[::1]:5349"}}}, ""},
		{`[{"urls":"stun:a"}]`, []Server{{URLs: []string{"stun:a"}}}, ""},
		{`[{"urls":["turn:t.example:3478?transport=udp","turns:t.example"],"username":"u","credential":"c"}]`, []Server{turnServer}, ""},
		{"https://a.example", nil, "stun:"},
		{"stun://a.example", nil, "no slashes"},
		{"stun:", nil, "a host"},
		{"stun:a,,stun:b", nil, "stun:"},
		{"STUN:a", []Server{{URLs: []string{"stun:a"}}}, ""},
		{"stun:a,stun:h:99999", nil, "1 to 65535"},
		{strings.TrimSuffix(strings.Repeat("stun:a,", 33), ","), nil, "32"},
		{"turn:a", nil, "JSON file"},
		{`[{"urls":"turn:a","username":"u"}]`, nil, "credential"},
		{`[{"urls":[]}]`, nil, "no urls"},
		{`[{"url":"stun:a"}]`, nil, "unknown field"},
		{`[{"urls":"stun:a","credentialType":"oauth"}]`, nil, "unknown field"},
		{`[{"urls":1}]`, nil, "JSON"},
		{`[`, nil, "JSON"},
		{`[] []`, nil, "JSON"},
		{`[null]`, nil, "no urls"},
		{`["stun:a"]`, nil, "JSON"},
		{`[["stun:a"]]`, nil, "JSON"},
		{`[{"urls":null}]`, nil, "stun:"},
		{`[{"urls":""}]`, nil, "stun:"},
		{`[{"urls":["stun:a",5]}]`, nil, "JSON"},
		{`[{"urls":["stun:a",["stun:b"]]}]`, nil, "JSON"},
		{`[{"urls":{"a":"stun:a"}}]`, nil, "JSON"},
		{`[{"urls":" stun:a"}]`, nil, "stun:"},
		{`[{"urls":"turn:a","username":5,"credential":"c"}]`, nil, "JSON"},
		{`[{"urls":"turn:a","username":"u","credential":{"key":"c"}}]`, nil, "JSON"},
		{`[{"urls":"turn:a","username":"u","credential":["c"]}]`, nil, "JSON"},
		{`[{"urls":"turn:a","username":null,"credential":null}]`, nil, "credential"},
		{`[{"urls":"turn:a?transport=sctp","username":"u","credential":"c"}]`, nil, "transport=udp"},
		{`[{"urls":"TURNS:a?transport=TCP","username":"u","credential":"c"}]`,
			[]Server{{URLs: []string{"turns:a?transport=tcp"}, Username: "u", Credential: "c"}}, ""},
		{`[{"urls":"turn:a","username":"` + strings.Repeat("u", 509) + `","credential":"c"}]`, nil, "508"},
		{`[{"urls":"turn:a","username":"u","credential":"` + strings.Repeat("c", 509) + `"}]`, nil, "508"},
	}
	for _, row := range rows {
		got, err := Parse(row.spec)
		if row.err == "" {
			if err != nil || !reflect.DeepEqual(got, row.want) {
				t.Errorf("%q: got %+v, %v, want %+v", row.spec, got, err, row.want)
			}
		} else if err == nil || !strings.Contains(err.Error(), row.err) {
			t.Errorf("%q: got %v, want an error with %q", row.spec, err, row.err)
		}
	}
}

// TestErrorsHideCredentials checks the errors for URLs in which an operator
// has put a password.
func TestErrorsHideCredentials(t *testing.T) {
	for _, spec := range []string{
		"turn:guest:geheim@turn.example", "stun:geheim@stun.example", "turn:turn.example?credential=geheim",
		`[{"urls":"turn:guest:geheim@turn.example:3478?transport=udp","username":"u","credential":"c"}]`,
		`[{"urls":"turn:turn.example:0","username":"geheim","credential":"geheim"}]`,
		`[{"urls":"turn:turn.example","credential":"geheim"}]`,
		`[{"urls":"turn:turn.example","username":"u","credential":5,"password":"geheim"}]`,
	} {
		if _, err := Parse(spec); err == nil || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%q: got %v, want an error without the password", spec, err)
		}
	}
}

// validURL is the grammar of RFC 7064 and 7065, as far as browsers understand it.
var validURL = regexp.MustCompile(`^(stuns?:` + host + `|turns?:` + host + `(\?transport=(udp|tcp))?)$`)

const host = `(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z_.-]+)(:[1-9][0-9]{0,4})?`

// FuzzParse parses arbitrary text.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "stun:a", "stun:a,stun:b:3478", "[]", `[{"urls":"stun:a"}]`, `[{"urls":["turn:a?transport=tcp"],"username":"u","credential":"c"}]`, "turn:a", "[{}]",
		"stun:[::1]:1", "stun:h:99999", "stun:2001:db8::1", "stun:1.2.3", "STUNS:a", "stun:a%20b", "stun:a#b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		servers, err := Parse(spec)
		if err != nil && servers != nil {
			t.Errorf("%q: got %v and %v, want one of them", spec, servers, err)
		}
		for _, s := range servers {
			if len(s.URLs) == 0 {
				t.Errorf("%q: got a server without a URL", spec)
			}
			for _, url := range s.URLs {
				if !validURL.MatchString(url) {
					t.Errorf("%q: got %q, want a URL that browsers understand", spec, url)
				}
			}
		}
	})
}
