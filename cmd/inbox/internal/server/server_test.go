package server

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/doctor"
)

// TestOptionWarnings checks that the log and the doctor report mistakes in the options, and
// that the values of variables stay private.
func TestOptionWarnings(t *testing.T) {
	o, err := config.Parse([]string{"-https=false", "-email", "me@example.org"}, []string{"INBOX_DOMAINS=secret.example"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Resolve(o, config.Facts{Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	config.LogWarnings(c.Warnings, slog.New(slog.NewTextHandler(&out, nil)))
	for _, want := range []string{
		`level=WARN msg="unknown environment variable" name=INBOX_DOMAINS fix="did you mean INBOX_DOMAIN?"`,
		`level=WARN msg="option has no effect" option=-email from="command line" fix="set -domain, or remove the option"`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "secret.example") {
		t.Errorf("the log contains the value of a variable:\n%s", out.String())
	}
	want := doctor.Finding{Name: "-email", Level: doctor.Warning, Text: "Option has no effect (from command line).", Fix: "Set -domain, or remove the option"}
	if got := optionFindings(c.Warnings); len(got) != 2 || got[1] != want {
		t.Errorf("got findings %+v, want two, the second %+v", got, want)
	}
}

// TestDoctorOpensPages checks that the doctor reports a directory of pages with which the
// server would not start.
func TestDoctorOpensPages(t *testing.T) {
	for dir, want := range map[string]doctor.Level{"": doctor.OK, t.TempDir(): doctor.OK, t.TempDir() + "/missing": doctor.Failure} {
		findings := DoctorConfig(resolve(t, "-https=false", "-public", dir)).Examine(t.Context())
		i := slices.IndexFunc(findings, func(f doctor.Finding) bool { return f.Check == "pages" })
		if i < 0 || findings[i].Level != want {
			t.Errorf("-public %q: got %+v, want %s for the check of the pages", dir, findings, want)
		}
	}
}
