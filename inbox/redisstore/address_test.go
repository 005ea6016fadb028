package redisstore

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"host only", "redis://localhost", "redis://localhost:6379"},
		{"user, password, port and database", "redis://user:p%40ss,word@192.0.2.1:7000/3", "redis://192.0.2.1:7000"},
		{"password only", "rediss://:secret@redis.example.org", "rediss://redis.example.org:6379"},
		{"IPv6", "redis://[2001:db8::1]:7000", "redis://[2001:db8::1]:7000"},
		{"IPv6 without a port", "redis://[2001:db8::1]", "redis://[2001:db8::1]:6379"},
		{"cluster", "redis://a:7000,b,c:7002", "redis://a:7000,b:6379,c:7002"},
		{"sentinel", "redis-sentinel://:secret@a,b:26380/mymaster/2", "redis-sentinel://a:26379,b:26380/mymaster"},
		{"sentinel over TLS", "rediss-sentinel://a/mymaster", "rediss-sentinel://a:26379/mymaster"},
	} {
		a, err := ParseAddress(c.text)
		if err != nil || a.String() != c.want {
			t.Errorf("%s: got %q, %v, want %q", c.name, a, err, c.want)
		}
		if a.TLS() != strings.HasPrefix(c.text, "rediss") {
			t.Errorf("%s: got TLS %v", c.name, a.TLS())
		}
	}
	a, _ := ParseAddress("redis://user:p%40ss,word@192.0.2.1:7000/3")
	if o := a.clientOption(); o.Username != "user" || o.Password != "p@ss,word" || o.SelectDB != 3 {
		t.Errorf("got user %q, password %q, database %d", o.Username, o.Password, o.SelectDB)
	}
}

func TestParseAddressRejects(t *testing.T) {
	for _, text := range []string{
		"", "localhost:6379", "http://localhost", "redis://", "redis://host:0", "redis://host:port", "redis://a,,b",
		"redis://host/one", "redis://a,b/1", "redis-sentinel://host", "redis://top secret@host", "redis://host?db=1",
		"redis://:secret/word@host", "redis-sentinel://secret:1234/word@host", "redis-sentinel://secret:1234/word@host/mymaster",
		"redis://" + strings.Repeat("a,", 64) + "a",
	} {
		if a, err := ParseAddress(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, a)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error %q contains the secret", text, err)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("redis://user:secret@a:1,b:2/3")
	f.Add("rediss-sentinel://[::1]:2/master/4")
	f.Fuzz(func(t *testing.T, text string) {
		if a, err := ParseAddress(text); err == nil {
			if again, err := ParseAddress(a.String()); err != nil || again.String() != a.String() {
				t.Errorf("%q: got %q, then %q, %v", text, a, again, err)
			}
		}
	})
}

// Redis 6 and 7 format errors inside a script differently. The client removes the
// prefix "ERR ".
func TestErrorsOfScripts(t *testing.T) {
	const six = "Error running script (call to f_0123456789012345678901234567890123456789): @user_script:12: @user_script: 12: -"
	for text, want := range map[string]struct{ unavailable, full bool }{
		"OOM command not allowed when used memory > 'maxmemory'.":        {full: true},
		six + "OOM command not allowed when used memory > 'maxmemory'. ": {full: true},
		"READONLY You can't write against a read only replica.":          {unavailable: true},
		six + "READONLY You can't write against a read only replica. ":   {unavailable: true},
		"ERR " + six + "OOM command not allowed. ":                       {full: true},
		six + "NOREPLICAS Not enough good replicas to write. ":           {unavailable: true},
		"ACL failure in script: No permissions to run the 'del' command": {unavailable: true},
		"ERR max number of clients reached":                              {unavailable: true},
		"ERR wrong number of arguments":                                  {},
	} {
		if unavailable, full := classifyText(text); unavailable != want.unavailable || full != want.full {
			t.Errorf("%q: got unavailable %v, full %v, want %+v", text, unavailable, full, want)
		}
	}
}
