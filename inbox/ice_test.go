package inbox_test

import (
	"net/http"
	"net/http/httptest"
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
		{"STUN:a", []inbox.ICEServer{{URLs: []string{"stun:a"}}}, ""},
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
			[]inbox.ICEServer{{URLs: []string{"turns:a?transport=tcp"}, Username: "u", Credential: "c"}}, ""},
		{`[{"urls":"turn:a","username":"` + strings.Repeat("u", 509) + `","credential":"c"}]`, nil, "508"},
		{`[{"urls":"turn:a","username":"u","credential":"` + strings.Repeat("c", 509) + `"}]`, nil, "508"},
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

// TestErrorsOfICEServersHideCredentials checks the errors for URLs in which an operator
// has put a password.
func TestErrorsOfICEServersHideCredentials(t *testing.T) {
	for _, spec := range []string{
		"turn:guest:geheim@turn.example", "stun:geheim@stun.example", "turn:turn.example?credential=geheim",
		`[{"urls":"turn:guest:geheim@turn.example:3478?transport=udp","username":"u","credential":"c"}]`,
		`[{"urls":"turn:turn.example:0","username":"geheim","credential":"geheim"}]`,
		`[{"urls":"turn:turn.example","credential":"geheim"}]`,
		`[{"urls":"turn:turn.example","username":"u","credential":5,"password":"geheim"}]`,
	} {
		if _, err := inbox.ParseICEServers(spec); err == nil || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%q: got %v, want an error without the password", spec, err)
		}
	}
}

func TestICEWithoutTURN(t *testing.T) {
	s := newRig(t, nil)
	s.want(s.do("", "GET", "/ice", ""), 200, `{"iceServers":[]}`)
	s.want(s.do("bob", "GET", "/ice", ""), 200, `{"iceServers":[]}`)
	if got := s.store.Stats().Inboxes; got != 0 {
		t.Errorf("claimed %d names, want none: the credentials make no difference", got)
	}
	s = newRig(t, func(c *inbox.Config, _ *inbox.Limits) {
		c.ICEServers = []inbox.ICEServer{{URLs: []string{"turn:turn.example.org"}, Username: "u", Credential: "c"}, {URLs: []string{"stun:s"}}}
	})
	s.want(s.do("", "GET", "/ice", ""), 200, `{"iceServers":[{"urls":["stun:s"]}]}`)
	s.want(s.do("bob", "GET", "/ice", ""), 200, `{"iceServers":[{"urls":["turn:turn.example.org"],"username":"u","credential":"c"},{"urls":["stun:s"]}]}`)
}

// ownTURN is a Config.TURN. Like a relay, it records the owners.
type ownTURN struct {
	owners   []string
	deleted  []string
	withheld string
}

func (o *ownTURN) servers(_ *http.Request, owner string) ([]inbox.ICEServer, string) {
	servers := []inbox.ICEServer{{URLs: []string{"stun:own.example:3478"}}}
	switch {
	case owner == "":
		return servers, ""
	case o.withheld != "":
		return servers, o.withheld
	}
	o.owners = append(o.owners, owner)
	return append(servers, inbox.ICEServer{URLs: []string{"turn:own.example:3478"}, Username: "u", Credential: "c"}), ""
}

func (o *ownTURN) configure(c *inbox.Config, _ *inbox.Limits) {
	c.TURN, c.OnDelete = o.servers, func(owner string) { o.deleted = append(o.deleted, owner) }
}

const (
	stunOnly = `{"iceServers":[{"urls":["stun:own.example:3478"]}]}`
	withTURN = `{"iceServers":[{"urls":["stun:own.example:3478"]},{"urls":["turn:own.example:3478"],"username":"u","credential":"c"}]}`
)

func TestICEOfOwners(t *testing.T) {
	own := new(ownTURN)
	s := newRig(t, own.configure)
	s.want(s.do("", "GET", "/ice", ""), 200, stunOnly)
	s.want(s.do("bob", "GET", "/ice", ""), 200, withTURN)
	if got := s.store.Stats().Inboxes; got != 1 {
		t.Errorf("claimed %d names, want bob", got)
	}
	wrong := request("", "GET", "/ice", "")
	wrong.SetBasicAuth("bob", "not his password")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, wrong)
	s.wantProblem(w, 401, "unauthorized")
	s.wantProblem(s.do("", "GET", "/ice", "", "Authorization: Bearer x"), 401, "unauthorized")
	own.withheld = "month-used"
	s.want(s.do("bob", "GET", "/ice", ""), 200, `{"iceServers":[{"urls":["stun:own.example:3478"]}],"turn":"month-used"}`)
	s.want(s.do("", "GET", "/ice", ""), 200, stunOnly)
}

func TestOwnerOfTURN(t *testing.T) {
	own := new(ownTURN)
	s := newRig(t, own.configure)
	s.do("bob", "GET", "/ice", "")
	s.want(s.do("bob", "DELETE", "/inbox", ""), 204, "")
	s.do("bob", "GET", "/ice", "")
	s.do("carol", "GET", "/ice", "")
	s.want(s.do("bob", "DELETE", "/inbox", ""), 204, "")
	another := request("", "GET", "/ice", "")
	another.SetBasicAuth("bob", "another password")
	s.ServeHTTP(httptest.NewRecorder(), another)
	if len(own.owners) != 4 || len(own.deleted) != 2 {
		t.Fatalf("got owners %q, deleted %q", own.owners, own.deleted)
	}
	if bob := own.owners[0]; own.owners[1] != bob || own.deleted[0] != bob || own.deleted[1] != bob {
		t.Errorf("the owner of bob changed: %q, deleted %q", own.owners, own.deleted)
	}
	if own.owners[2] == own.owners[0] || own.owners[3] == own.owners[0] {
		t.Errorf("another name or password has the same owner: %q", own.owners)
	}
	s.wantProblem(s.do("", "DELETE", "/inbox", ""), 401, "unauthorized")
	if len(own.deleted) != 2 {
		t.Error("a refused DELETE counts as one")
	}
}

func TestICEOfOtherOrigins(t *testing.T) {
	const foreign = "Origin: https://pages.example"
	rows := []struct {
		name    string
		any     bool
		origins []string
		header  []string
		want    string
	}{
		{"own page", true, nil, []string{"Sec-Fetch-Site: same-origin"}, withTURN},
		{"no browser", true, nil, nil, withTURN},
		{"any origin", true, nil, []string{foreign}, `{"iceServers":[{"urls":["stun:own.example:3478"]}],"turn":"other-origin"}`},
		{"any origin, fetch metadata", true, nil, []string{foreign, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors"},
			`{"iceServers":[{"urls":["stun:own.example:3478"]}],"turn":"other-origin"}`},
		{"listed origin", false, []string{"https://pages.example"}, []string{foreign}, withTURN},
		{"any and listed", true, []string{"https://pages.example"}, []string{foreign}, withTURN},
		{"any and another one listed", true, []string{"https://other.example"}, []string{foreign},
			`{"iceServers":[{"urls":["stun:own.example:3478"]}],"turn":"other-origin"}`},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			own := new(ownTURN)
			s := newRig(t, func(c *inbox.Config, l *inbox.Limits) {
				own.configure(c, l)
				c.AnyOrigin, c.Origins = row.any, row.origins
			})
			s.want(s.do("bob", "GET", "/ice", "", row.header...), 200, row.want)
			s.want(s.do("", "GET", "/ice", "", row.header...), 200, stunOnly)
		})
	}
}
