package recipes

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// serviceUser is the user of the server.
const serviceUser = 64999

// TestCertbot obtains a certificate with certbot, and renews it while the server runs as a user
// that cannot read the files of certbot.
func TestCertbot(t *testing.T) {
	t.Parallel()
	const section = "certbot"
	m := newMachine(t, "certbot", "certbot")
	m.startCA()
	m.mkdir("/etc/letsencrypt/renewal-hooks/deploy", "/var/lib/inbox")
	m.must(os.Chown(m.root+"/var/lib/inbox", serviceUser, serviceUser))
	m.must(os.Chmod(m.root+"/var/lib/inbox", 0o700))
	// The commands of the documentation, with the CA of the test, and without a dialog.
	run := func(commands string) {
		t.Helper()
		m.runDoc(`systemctl() { :; }; apt() { :; }
			certbot() { command certbot "$@" --server `+caURL+` --non-interactive; }
			`+commands, "REQUESTS_CA_BUNDLE="+m.root+caRoot)
	}
	run(docBlock(t, section, "Leave the port to certbot:"))
	run(docBlock(t, section, "Write the hook once, as root:"))

	m.write("/etc/inbox/inbox.env", docBlock(t, section, envAfter)+"INBOX_BIND=:443\n")
	m.run("sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start")
	server := m.command(program, inboxOptions()...)
	user := []string{fmt.Sprintf("--setgid=%d", serviceUser), fmt.Sprintf("--setuid=%d", serviceUser)}
	server.Args = append(append(server.Args[:1:1], user...), server.Args[1:]...)
	m.serveInbox(server)
	m.awaitTLS("Pebble")
	m.checkDoctor()

	before, err := m.certificateOf(site)
	m.must(err)
	run("certbot renew --force-renewal --no-random-sleep-on-renew")
	m.eventually("the renewed certificate", func() error {
		cert, err := m.certificateOf(site)
		if err == nil && cert.SerialNumber.Cmp(before.SerialNumber) == 0 {
			err = fmt.Errorf("got the certificate from before the renewal")
		}
		return err
	})
}

// TestPrivateCA obtains a certificate from a private CA with the options for step-ca.
func TestPrivateCA(t *testing.T) {
	t.Parallel()
	const section, name = "step-ca", "inbox.internal"
	m := newMachine(t, "private-ca")
	m.startCA()
	m.run("mv", caRoot, "/var/root_ca.crt")
	m.runDoc("cd /var\n" + docBlock(t, section, "it for root only:"))
	options := docBlock(t, section, envAfter)
	m.startInbox(strings.Replace(options, "https://ca.internal/acme/acme/directory", caURL, 1))
	m.eventually("a certificate of the private CA", func() error {
		cert, err := m.certificateOf(name)
		if err == nil && !strings.Contains(cert.Issuer.String(), "Pebble") {
			err = fmt.Errorf("got a certificate of %s", cert.Issuer)
		}
		return err
	})
}
