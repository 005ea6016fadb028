package inbox_test

import (
	"reflect"
	"strings"
	"testing"

	"inbox/inbox"
)

func TestParseICEServers(t *testing.T) {
	turnServer := inbox.ICEServer{URLs: []string{"turn:t.example:3478?transport=udp", "turns:t.example"}, Username: "u", Credential: "c"}
	rows := []struct {
		spec string
		want []inbox.ICEServer
		err  string
	}{
		{"", nil, ""},
		{"stun:a.example", []inbox.ICEServer{{URLs: []string{"stun:a.example"}}}, ""},
		{" stun:a , stuns:[::1]:5349", []inbox.ICEServer{{URLs: []string{"stun:a"}}, {URLs: []string{"stuns:[::1]:5349"}}}, ""},
		{`[{"urls":"stun:a"}]`, []inbox.ICEServer{{URLs: []string{"stun:a"}}}, ""},
		{`[{"urls":["turn:t.example:3478?transport=udp","turns:t.example"],"username":"u","credential":"c"}]`, []inbox.ICEServer{turnServer}, ""},
		{"https://a.example", nil, "stun:"},
		{"stun://a.example", nil, "no slashes"},
		{"stun:", nil, "a host"},
		{"stun:a,,stun:b", nil, "stun:"},
		{"turn:a", nil, "JSON file"},
		{`[{"urls":"turn:a","username":"u"}]`, nil, "credential"},
		{`[{"urls":[]}]`, nil, "no urls"},
		{`[{"url":"stun:a"}]`, nil, "unknown field"},
		{`[{"urls":"stun:a","credentialType":"oauth"}]`, nil, "unknown field"},
		{`[{"urls":1}]`, nil, "JSON"},
		{`[`, nil, "JSON"},
	}
	for _, row := range rows {
		got, err := inbox.ParseICEServers(row.spec)
		if row.err == "" {
			if err != nil || !reflect.DeepEqual(got, row.want) {
				t.Errorf("%q: got %+v, %v, want %+v", row.spec, got, err, row.want)
			}
		} else if err == nil || !strings.Contains(err.Error(), row.err) {
			t.Errorf("%q: got %v, want an error with %q", row.spec, err, row.err)
		}
	}
}
