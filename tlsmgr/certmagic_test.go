package tlsmgr

import "testing"

func TestProfileAskedFor(t *testing.T) {
	first, second := &authority{}, &authority{}
	for _, tt := range []struct {
		why, wanted, name string
		ca                *authority
		listed            string
		want              string
	}{
		{"none", "", "one.example", first, "shortlived", ""},
		{"an address", "", "192.0.2.1", first, "shortlived", "shortlived"},
		{"an address, unknown to the authority", "", "192.0.2.1", first, "classic", ""},
		{"a wish", "classic", "192.0.2.1", first, "shortlived", "classic"},
		{"a wish that the second fulfils", "classic", "one.example", second, "classic", "classic"},
		{"a wish that the second does not know", "classic", "one.example", second, "other", ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			e := &withCertmagic{set: &settings{cas: []*authority{first, second}, Config: Config{ACME: ACME{Profile: tt.wanted}}}}
			d := new(directory)
			d.Meta.Profiles = map[string]string{tt.listed: ""}
			if got := e.profile(order{name: tt.name, ca: tt.ca, offers: d}); got != tt.want {
				t.Errorf("asked for %q, want %q", got, tt.want)
			}
		})
	}
}
