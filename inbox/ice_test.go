package inbox_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"inbox/inbox"
	"inbox/inbox/ice"
)

func TestICEWithoutTURN(t *testing.T) {
	s := newRig(t, nil)
	s.want(s.do("", "GET", "/ice", ""), 200, `{"iceServers":[]}`)
	s.want(s.do("bob", "GET", "/ice", ""), 200, `{"iceServers":[]}`)
	if got := s.store.Stats().Inboxes; got != 0 {
		t.Errorf("claimed %d names, want none: the credentials make no difference", got)
	}
	s = newRig(t, func(c *inbox.Config, _ *inbox.Limits) {
		c.ICEServers = []ice.Server{{URLs: []string{"turn:turn.example.org"}, Username: "u", Credential: "c"}, {URLs: []string{"stun:s"}}}
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

func (o *ownTURN) servers(_ *http.Request, owner string) ([]ice.Server, string) {
	servers := []ice.Server{{URLs: []string{"stun:own.example:3478"}}}
	switch {
	case owner == "":
		return servers, ""
	case o.withheld != "":
		return servers, o.withheld
	}
	o.owners = append(o.owners, owner)
	return append(servers, ice.Server{URLs: []string{"turn:own.example:3478"}, Username: "u", Credential: "c"}), ""
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
