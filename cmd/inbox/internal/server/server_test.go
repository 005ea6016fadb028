package server

import (
	"bytes"
	"strings"
	"testing"

	"inbox/cmd/inbox/internal/config"
)

func TestUnknownVariablesAreLoggedAtDebug(t *testing.T) {
	o, err := config.Parse([]string{"-bind", "127.0.0.1:0", "-https=false", "-log-level", "debug"}, []string{"INBOX_PORT=tcp://192.0.2.1:80"})
	if err != nil {
		t.Fatal(err)
	}
	p := testProcess()
	c, err := config.Resolve(o, config.Facts{Getenv: p.Getenv})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	p.Stderr = &out
	build(t, p, c, nil)
	if !strings.Contains(out.String(), "INBOX_PORT") || strings.Contains(out.String(), "192.0.2.1") {
		t.Errorf("want the name of the variable without its value:\n%s", out.String())
	}
}
