package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestArguments(t *testing.T) {
	for _, row := range []struct {
		args, want string // values of -rate, -cors and -domain
	}{
		{"", "40 false "},
		{"-rate 5 -cors", "5 true "},
		{"--rate=5 --cors=false", "5 false "},
		{"-rate 5 -rate 6", "6 false "},
		{"-cors -domain a.example --", "40 true a.example"},
		{"-domain -x.example", "40 false -x.example"}, // no option
	} {
		o, err := Parse(strings.Fields(row.args), nil)
		if err != nil {
			t.Errorf("%s: %v", row.args, err)
			continue
		}
		if got := fmt.Sprint(o.rate, " ", o.cors, " ", o.domain); got != row.want {
			t.Errorf("%s: got %s, want %s", row.args, got, row.want)
		}
	}
}

func TestCommandsAreFound(t *testing.T) {
	for args, want := range map[string]Command{
		"": Serve, "-cors": Serve, "doctor -json": Doctor, "config -cors": ShowConfig, "version": Version, "-version": Version,
		"help": Help, "help turn": Help, "-h": Help, "doctor -h": Help, "-rate x -help": Help,
	} {
		if o, err := Parse(strings.Fields(args), nil); err != nil || o.Command != want {
			t.Errorf("%q: got %v, %v, want the command %d", args, o, err, want)
		}
	}
	if len(Commands()) != len(commands) {
		t.Errorf("got the list %q, want all of %v", Commands(), commands)
	}
	for _, name := range Commands() {
		if _, found := commands[name]; !found {
			t.Errorf("%s is in the list, but no command", name)
		}
	}
}

// TestSynonyms checks that synonyms are not options, and lead to one.
func TestSynonyms(t *testing.T) {
	o := defaultOptions()
	for name, option := range synonyms {
		if o.flags.Lookup(name) != nil || o.flags.Lookup(option) == nil {
			t.Errorf("-%s is an option, or -%s is none", name, option)
		}
	}
}

// FuzzArguments checks that no command line makes the parser panic, and that each error is one
// short line.
func FuzzArguments(f *testing.F) {
	for _, seed := range []string{"-rate\x005", "doctor\x00-h", "--\x00x", "-=", "---", "-cors\x00false", "-domian\x00a\x00-h\x00x", "-inbox-timeout=1h\n", "help\x00-turn"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, joined string) {
		args := strings.Split(joined, "\x00")
		for _, arg := range args {
			if strings.Contains(arg, "config") || strings.Contains(arg, "env-file") {
				return // opens a file
			}
		}
		_, err := Parse(args, nil)
		if err == nil {
			return
		}
		if lines := strings.Count(err.Error(), "\n") + 1; lines > len(args) {
			t.Errorf("%q: got %d lines for %d arguments:\n%v", args, lines, len(args), err)
		}
	})
}

// FuzzEnvFile checks that no environment file makes the parser panic, and that each error has a
// position.
func FuzzEnvFile(f *testing.F) {
	for _, seed := range []string{"", "INBOX_RATE=5", "export A=1", "A = 1", "# x\n;y\n\nINBOX_RATE=\"5\"\r\n", "INBOX_DOMIAN=x", "=", "INBOX_RATE='", "A=\\", "\ufeffA=1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o := defaultOptions()
		if err := o.parseAssignments("file", text); err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.Contains(line, "file:") {
					t.Errorf("the error %q has no position", line)
				}
			}
		}
		for name, from := range o.from {
			if !o.settable(name) || !strings.HasPrefix(from, "file:") {
				t.Errorf("accepted %q from %q", name, from)
			}
		}
	})
}
