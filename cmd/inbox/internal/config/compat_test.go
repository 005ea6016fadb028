package config

import (
	"slices"
	"strings"
	"testing"
)

func TestCompat(t *testing.T) {
	for _, row := range []struct {
		value string
		want  []string
		err   string
	}{
		{"", nil, ""},
		{"peerjs", []string{"peerjs"}, ""},
		{" PeerJS , peerjs,", []string{"peerjs"}, ""},
		{"peer-js", nil, `-compat "peer-js" (from command line): "peer-js" is not a protocol that is served: must be a list of peerjs, topics; did you mean peerjs?`},
		{"peerjs,irc", nil, `"irc" is not a protocol that is served: must be a list of peerjs`},
	} {
		o, err := Parse([]string{"-compat", row.value}, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Resolve(o, Facts{Getenv: func(string) string { return "" }})
		switch {
		case row.err != "":
			if err == nil || !strings.Contains(err.Error(), row.err) {
				t.Errorf("%q: got error %v, want %s", row.value, err, row.err)
			}
		case err != nil:
			t.Errorf("%q: got error %v", row.value, err)
		case !slices.Equal(c.Compat, row.want):
			t.Errorf("%q: got %v, want %v", row.value, c.Compat, row.want)
		}
	}
}
