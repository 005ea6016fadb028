package recipes

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestCoturn moves from coturn, whose clients must then work with the server. Over TLS, they send
// no server name, which -domain requires; e2e/turn runs them with certificate files.
func TestCoturn(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "coturn", "turnserver", "turnutils_stunclient", "turnutils_uclient")
	ca := m.startCA()
	m.startInbox(docBlock(t, "Move from coturn", envAfter), ca...)
	m.awaitTLS("Pebble")
	m.checkRelay(stunURL, turnURL, tlsURL)
	if out := m.run("turnutils_stunclient", serverAddr); !strings.Contains(out, "UDP reflexive addr: "+serverAddr+":") {
		t.Errorf("turnutils_stunclient: got %s, want the address of the client", out)
	}
	_, username, credential := m.iceServers("relay")
	out := m.run("turnutils_uclient", "-u", username, "-w", credential, "-m", "4", "-n", "20", "-c", "-y", serverAddr)
	if !strings.Contains(out, "tot_send_msgs=80, tot_recv_msgs=80") {
		t.Errorf("turnutils_uclient: want 80 messages sent and received, got\n%s", out)
	}
}

// TestCoturnOptions checks that the table names options of coturn. Some need a build with a
// library that Debian leaves out.
func TestCoturnOptions(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "coturn-options", "turnserver")
	help, _ := m.command("turnserver", "--help").CombinedOutput() // exits with code 1
	text, err := os.ReadFile(page)
	m.must(err)
	_, table, _ := strings.Cut(string(text), "| line of `turnserver.conf` | inbox |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	name := regexp.MustCompile("`([a-z0-9-]+)[^`]*`")
	found := 0
	for line := range strings.Lines(table) {
		options, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		for _, match := range name.FindAllStringSubmatch(options, -1) {
			found++
			if !strings.Contains(string(help), "--"+match[1]) {
				t.Errorf("turnserver has no option %s", match[1])
			}
		}
	}
	if found < 40 {
		t.Errorf("got %d options in the table, want at least 40", found)
	}
}
