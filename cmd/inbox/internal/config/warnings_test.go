package config

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestEveryOptionHasEffectOrWarns lists the options that always have an effect, or are an
// error otherwise, so that a new option must be considered.
func TestEveryOptionHasEffectOrWarns(t *testing.T) {
	considered := strings.Fields(`access label for list revoke bind https public compat cors cors-origins ice-servers turn domain http-bind
		inbox-timeout inbox-capacity cleanup-interval long-polling
		store store-file store-ca store-key-file store-replicas
		max-body-size max-header-size max-inboxes max-queued-bytes max-memory max-conns max-conns-per-ip conn-rate rate
		trusted-proxies proxy-protocol state metrics-bind config env-file log-format log-level version json renew-test dry-run`)
	for _, condition := range noEffect {
		considered = append(considered, condition.options...)
	}
	defaultOptions().flags.VisitAll(func(f *flag.Flag) {
		if !slices.Contains(considered, f.Name) {
			t.Errorf("-%s: add the condition without which it has no effect to noEffect, or add it to this test", f.Name)
		}
	})
	for _, name := range considered {
		if defaultOptions().flags.Lookup(name) == nil {
			t.Errorf("-%s is no option", name)
		}
	}
}

func TestOptionWithoutEffect(t *testing.T) {
	for _, row := range []struct{ args, want string }{
		{"", ""},
		{"-email me@example.org", "-email"},
		{"-acme autocert", "-acme"},
		{"-acme certmagic", ""}, // the default
		{"-acme-agree -acme-ca https://ca.example/dir -acme-root x", "-acme-agree -acme-ca -acme-root"},
		{"-acme-challenge http-01 -acme-preflight=false", "-acme-challenge -acme-preflight"},
		{"-acme-fallback-root x", "-acme-fallback-root"}, // for two reasons, warned of once
		{"-http-bind=", ""},
		{"-domain a.example -acme-agree", ""},
		{"-domain a.example -email me@example.org -acme autocert -acme-staging", ""},
		{"-domain a.example -acme-agree -acme-fallback-root x", "-acme-fallback-root"},
		{"-domain a.example -acme-agree -acme-fallback-ca https://b.example -acme-fallback-root x", ""},
		{"-domain a.example -acme-agree -acme-staging -acme-staging-first=false", "-acme-staging-first"},
		{"-domain a.example -acme-agree -acme-staging-first=false", ""},
		{"-https=false -server-cert a -server-key b", "-server-cert -server-key"},
		{"-long-polling=false -poll-timeout 3", "-poll-timeout"},
		{"-rate 0 -burst 100", "-burst"},
		{"-rate 0 -rate-dry-run", ""},
		{"-rate 0 -conn-rate 0 -max-conns-per-ip 0 -rate-dry-run", "-rate-dry-run"},
		{"-client-header Forwarded", "-client-header"},
		{"-client-header Forwarded -trusted-proxies 10.0.0.1", ""},
		{"-client-header Forwarded -bind unix:/run/x", ""},
		{"-metrics-hosts monitor", "-metrics-hosts"},
		{"-metrics-hosts monitor -metrics-bind 127.0.0.1:9091", ""},
		{"-turn off -turn-bind :1 -turn-rate 5 -turn-month 5", "-turn-bind -turn-month -turn-rate"},
		{"-https=false -turn-bind :1", "-turn-bind"},
		{"-https=false -turn turn.example.org -turn-bind :1", ""},
		{"-turn-bind :1 -turn-rate 5 -turn-month 5", ""},
		{"-store redis://h -turn-month 5", "-turn-month"},
		{"-max-inboxes 10 -max-inboxes-per-ip 20", "-max-inboxes-per-ip"},
		{"-max-inboxes 10", ""}, // the other value is the default
		{"-max-inboxes-per-ip 0", "-max-inboxes-per-ip"},
		{"-max-inboxes 0 -max-inboxes-per-ip 0", ""},
		{"-max-queued-bytes 2000000 -max-queued-bytes-per-ip 3000000", "-max-queued-bytes-per-ip"},
	} {
		c := mustResolve(t, Facts{}, strings.Fields(row.args)...)
		var got []string
		for _, w := range c.Warnings {
			got = append(got, w.Name)
			if w.Text != "option has no effect" || w.From != "command line" || w.Fix == "" {
				t.Errorf("%s: got %+v", row.args, w)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != row.want {
			t.Errorf("%s: got warnings of %q, want %q", row.args, got, row.want)
		}
	}
}

// TestPassedSocketsHaveUnknownKinds checks that sockets of systemd prevent warnings about
// options that they can use.
func TestPassedSocketsHaveUnknownKinds(t *testing.T) {
	facts := Facts{Getenv: func(name string) string { return map[string]string{"LISTEN_FDS": "1"}[name] }}
	c := mustResolve(t, facts, "-client-header", "Forwarded", "-metrics-hosts", "monitor")
	if len(c.Warnings) > 0 {
		t.Errorf("got %+v, want no warning", c.Warnings)
	}
}

func TestUnknownVariables(t *testing.T) {
	for _, row := range []struct{ entry, want string }{
		{"INBOX_DOMAINS=a.example", "did you mean INBOX_DOMAIN?"},
		{"INBOX_DOMIAN=a.example", "did you mean INBOX_DOMAIN?"},
		{"INBOX_MAX_CONN=5", "did you mean INBOX_MAX_CONNS?"},
		{"INBOX_TIMEOUT=5", "did you mean INBOX_INBOX_TIMEOUT?"},
		{"INBOX_log_level=debug", "did you mean INBOX_LOG_LEVEL?"},
		{"inbox_domain=a.example", "did you mean INBOX_DOMAIN?"},
		{"Inbox_Domain=a.example", "did you mean INBOX_DOMAIN?"},
		{"INBOX_SOMETHING_ELSE=5", "remove the variable"},
		{"INBOX_=5", "remove the variable"},
		{"INBOX_" + strings.Repeat("A", 1000) + "=5", "remove the variable"},
		{"INBOX_PORT=3000", "did you mean INBOX_BIND?"},
		{"INBOX_CERT=a.pem", "did you mean INBOX_SERVER_CERT?"},
		{"INBOX_VERBOSE=1", "did you mean INBOX_LOG_LEVEL?"},
		{"INBOX_ENV_FILE=a", "remove the variable"},
		{"INBOX_CONF=a", "did you mean INBOX_CONFIG?"},
		{"INBX_DOMAIN=a.example", "did you mean INBOX_DOMAIN?"},
		{"INOBX_DOMAIN=a.example", "did you mean INBOX_DOMAIN?"},
		{"INBOX-DOMAIN=a.example", "did you mean INBOX_DOMAIN?"},
		{"INBOX.DOMAIN=a.example", "did you mean INBOX_DOMAIN?"},
		{"INBOX__DOMAIN=a.example", "did you mean INBOX_DOMAIN?"},
		{"INBOXDOMAIN=a.example", "did you mean INBOX_DOMAIN?"},
		{"DOMAIN=a.example", "did you mean INBOX_DOMAIN?"},
		{"MAX_CONNS=5", "did you mean INBOX_MAX_CONNS?"},
		{"INDEX_PUBLIC=x", ""},
		{"EMAIL=me@example.org", ""},
		{"LOG_LEVEL=debug", ""},
		{"HTTPS=on", ""},
		{"domain=a.example", ""},
		{"INBOX_DOMAINS=", ""},
		{"INBOX_PORT=tcp://10.0.0.1:80", ""},
		{"INBOX_PORT_80_TCP_ADDR=10.0.0.1", ""},
		{"INBOX_SERVICE_HOST=10.0.0.1", ""},
		{"INBOX_VERSION=1", ""},
		{"OTHER=1", ""},
	} {
		o, err := Parse(nil, []string{row.entry})
		if err != nil {
			t.Errorf("%s: %v", row.entry, err)
			continue
		}
		c, err := Resolve(o, Facts{Getenv: func(string) string { return "" }})
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(row.entry, "=")
		switch {
		case row.want == "":
			if len(c.Warnings) > 0 {
				t.Errorf("%s: got %+v, want no warning", row.entry, c.Warnings)
			}
		case len(c.Warnings) != 1 || c.Warnings[0].Name != name || !strings.Contains(c.Warnings[0].Fix, row.want):
			t.Errorf("%s: got %+v, want one warning with %q", row.entry, c.Warnings, row.want)
		}
	}
}

// TestDomainMistakes checks that an error names the option, its source and the rule.
func TestDomainMistakes(t *testing.T) {
	for _, row := range []struct{ value, want string }{
		{`"chat.example.org"`, "quotation marks; remove them"},
		{`'chat.example.org'`, "quotation marks; remove them"},
		{`“chat.example.org”`, "quotation marks; remove them"},
		{`"a.example","b.example"`, "quotation marks; remove them"},
		{`a.example,"b.example"`, "quotation mark; remove it"},
		{"a.example b.example", "separate several names by commas"},
		{"a.example;b.example", "separate several names by commas"},
		{"a.example|b.example", "separate several names by commas"},
		{"a.example\tb.example", "separate several names by commas"},
		{"my_host.example", "underscore"},
		{"https://a.example", "is a URL"},
		{"a.example/path", "is a URL"},
		{"a.example:443", "contains a port"},
		{"me@example.org", "e-mail address"},
		{"*.example.org", "wildcard"},
		{"a..example.org", "is not a host name"},
		{"192.0.2.300", "is not a host name"},
		{"a.example # public", "write comments on lines of their own"},
		{",", "contains no host name"},
	} {
		o, err := Parse([]string{"-acme-agree"}, []string{"INBOX_DOMAIN=" + row.value})
		if err == nil {
			_, err = Resolve(o, Facts{Getenv: func(string) string { return "" }})
		}
		if err == nil || !strings.HasPrefix(err.Error(), "-domain ") || !strings.Contains(err.Error(), "(from INBOX_DOMAIN)") || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%q: got %v, want an error with -domain, its source and %q", row.value, err, row.want)
		}
	}
	for _, names := range []string{"a.example, b.example", "[2001:db8::1],192.0.2.1", "2001:db8::1", "ü.example", "a.example."} {
		mustResolve(t, Facts{}, "-acme-agree", "-domain", names)
	}
}

// TestQuotedValuesAreRejected tries every option. The error must not repeat the value.
func TestQuotedValuesAreRejected(t *testing.T) {
	defaultOptions().flags.VisitAll(func(f *flag.Flag) {
		if !defaultOptions().settable(f.Name) {
			return
		}
		for _, quote := range []string{`"`, "'"} {
			value := quote + "hidden" + quote
			_, err := Parse(nil, []string{variableOf(f.Name) + "=" + value})
			want := fmt.Sprintf("-%s (from %s): the value is in quotation marks; remove them", f.Name, variableOf(f.Name))
			if err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		}
	})
	if _, err := Parse([]string{"-state", `"/var/lib/inbox"`}, nil); err == nil || !strings.Contains(err.Error(), "(from command line)") {
		t.Errorf("on the command line: got %v, want an error", err)
	}
}

// TestOtherMistakes checks the rules of options that are passed on unread elsewhere.
func TestOtherMistakes(t *testing.T) {
	for _, row := range []struct{ option, value, want string }{
		{"bind", "= 127.0.0.1:0", "must be an address and a port"},
		{"bind", "my host:3000", "must be an address and a port"},
		{"bind", "https://a:3000", "must be an address and a port"},
		{"metrics-bind", "a;b:3000", "must be an address and a port"},
		{"trusted-proxies", "10.0.0.1 10.0.0.2", "separate several by commas"},
		{"trusted-proxies", "10.0.0.1;10.0.0.2", "separate several by commas"},
		{"client-header", "X-Real-IP, Forwarded", "one header field"},
		{"client-header", "X-Real-IP:", "one header field"},
		{"metrics-hosts", "a b", "must be a host name"},
		{"metrics-hosts", "a;b", "must be a host name"},
		{"cors-origins", "https://a.example;", "is not an origin"},
		{"cors-origins", "https://a.example https://b.example", "is not an origin"},
	} {
		_, err := resolve(Facts{}, "-"+row.option, row.value)
		if err == nil || !strings.HasPrefix(err.Error(), "-"+row.option+" ") || !strings.Contains(err.Error(), row.want) {
			t.Errorf("-%s %q: got %v, want an error with %q", row.option, row.value, err, row.want)
		}
	}
	for _, bind := range []string{"localhost:3000", "[::1]:3000", "[fe80::1%eth0]:3000", "my_service:http", ":3000"} {
		mustResolve(t, Facts{}, "-bind", bind)
	}
}

// FuzzEnvironment checks that no environment makes the parser panic, and that errors name
// the variable.
func FuzzEnvironment(f *testing.F) {
	for _, seed := range []string{"INBOX_DOMAIN=a b", "INBOX_=", "inbox_x=\"", "INBOX_RATE='", "INBOX_STORE=\"redis://x\"", "INBOX_\x00=1", "=", "INBOX_CORS=\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		if strings.HasPrefix(entry, "INBOX_CONFIG=") {
			return // opens a file
		}
		o, err := Parse(nil, []string{entry})
		if key, _, _ := strings.Cut(entry, "="); err != nil && !strings.Contains(err.Error(), key) {
			t.Errorf("%q: the error %q does not name the variable", entry, err)
		}
		if err == nil {
			(&resolver{o: o, c: &Config{}}).warnUnknownVars()
		}
	})
}
