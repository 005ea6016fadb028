package packages

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"inbox/e2e"
)

// lifecycleScript runs in a Debian that systemd has started, with no network but
// loopback. Each step leaves a line that begins with «=»; the end is «= over».
// What docs/install.md says stands in for the words in braces.
const lifecycleScript = `#!/bin/bash
exec >/root/life 2>&1
trap 'echo "= failed: $BASH_COMMAND"; systemctl status inbox; journalctl -u inbox | tail -50; systemctl poweroff; exit' ERR
set -Ee
export DEBIAN_FRONTEND=noninteractive

version() { "/proc/$(systemctl show -P MainPID inbox)/exe" version; }
knock() { (exec 3<>/dev/tcp/127.0.0.1/443) 2>/dev/null; }

{install}
systemctl is-active inbox inbox.socket inbox-http.socket && knock && echo "= the first page's commands start it"
{stop}
! systemctl is-active inbox.socket && ! knock && [ ! -e /etc/systemd/system/sockets.target.wants/inbox.socket ] && echo "= stops"
yes | {forget}
[ ! -e /etc/inbox/inbox.env ] && [ ! -e /var/lib/inbox ] && [ ! -e /var/lib/private/inbox ] && echo "= forgets it all"

mkdir -p /etc/inbox && printf 'INBOX_DOMAIN=inbox.test\nINBOX_EMAIL=me@inbox.test\n' >/etc/inbox/inbox.env
apt-get -yq --no-install-recommends install /root/first.deb
systemctl is-active inbox && echo "= runs once it is installed"
knock && echo "= is reached on port 443"
[ "$(version)" = "$(inbox version)" ]
secret=$(cat /var/lib/inbox/secret | sha256sum)
(cd /root; {backup})

while :; do if knock; then echo ok; else echo refused; fi; sleep 0.01; done >/root/knocks &
knocking=$!
before=$(version)
apt-get -yq --no-install-recommends install /root/second.deb
for i in $(seq 50); do [ "$(version)" != "$(inbox version)" ] || break; sleep 0.1; done
[ "$(version)" = "$(inbox version)" ] && [ "$(version)" != "$before" ]
kill "$knocking"
echo "= upgrade: $(grep -c ok /root/knocks) knocks, $(grep -c refused /root/knocks || true) refused"

apt-get -yq remove inbox
! systemctl is-active inbox.socket && ! knock && echo "= removal frees the port"
apt-get -yq --no-install-recommends install /root/second.deb
systemctl is-active inbox && echo "= runs again once it is back"
systemctl stop inbox.service inbox.socket inbox-http.socket && systemctl disable inbox
apt-get -yq --no-install-recommends reinstall /root/second.deb
! systemctl is-active inbox && echo "= what is disabled stays off"
apt-get -yq purge inbox
[ "$(cat /var/lib/private/inbox/secret | sha256sum)" = "$secret" ] && echo "= state outlives the purge"
rm -rf /var/lib/inbox /var/lib/private/inbox
apt-get -yq --no-install-recommends install /root/second.deb
(cd /root; {restore})
systemctl is-active inbox && [ "$(stat -c %a /root/inbox-backup.tar.gz)" = 600 ] && [ "$(cat /var/lib/inbox/secret | sha256sum)" = "$secret" ] && echo "= a backup is taken up"
echo "= over"
systemctl poweroff
`

const lifecycleUnit = `[Unit]
After=multi-user.target

[Service]
ExecStart=/bin/bash /root/life.sh

[Install]
WantedBy=default.target
`

// withDocCommands puts the commands of docs/install.md where the script names them,
// for a package that lies elsewhere and with nobody there to answer.
func withDocCommands(t *testing.T, script string) string {
	t.Helper()
	for name, after := range map[string]string{
		"{install}": "host name and e-mail address:", "{stop}": "service off after a reboot:", "{forget}": "To remove everything:",
		"{backup}": "A backup can be made while the server runs:", "{restore}": "install the package there, then:",
	} {
		block, err := e2e.DocBlock("../../docs/install.md", after)
		if err != nil {
			t.Fatal(err)
		}
		block = strings.NewReplacer("./inbox_1.0.0_amd64.deb", "-y --no-install-recommends /root/first.deb").Replace(block)
		script = strings.ReplaceAll(script, name, strings.TrimSpace(block))
	}
	return script
}

// The package's scripts with a real systemd. It is not registered with the
// host's, so nothing of the host's is touched.
func TestDebUnderSystemd(t *testing.T) {
	requireTools(t, "root", "systemd-nspawn")
	releases, r := buildReleases(t), newDebianRoot(t)
	runCommand(t, "cp", releases.original.file(t, "*.deb"), r.path("/root/first.deb"))
	runCommand(t, "cp", releases.newer.file(t, "*.deb"), r.path("/root/second.deb"))
	r.write("/root/life.sh", withDocCommands(t, lifecycleScript))
	r.write("/etc/systemd/system/life.service", lifecycleUnit)
	r.run("systemctl", "enable", "life.service")

	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemd-nspawn", "--quiet", "--directory", r.dir, "--private-network",
		"--register=no", "--keep-unit", "--console=pipe", "--boot").CombinedOutput()
	if !r.exists("/root/life") {
		t.Fatalf("systemd did not start: %v\n%s", err, out)
	}
	result := r.read("/root/life")
	for _, want := range []string{"the first page's commands start it", "stops", "forgets it all", "runs once it is installed", "is reached on port 443", " 0 refused", "removal frees the port",
		"runs again once it is back", "what is disabled stays off", "state outlives the purge", "a backup is taken up", "over"} {
		if !strings.Contains(result, want+"\n") {
			t.Errorf("not reached: %s", want)
		}
	}
	for line := range strings.Lines(result) {
		if strings.HasPrefix(line, "= ") {
			t.Log(strings.TrimSpace(line))
		}
	}
	if t.Failed() {
		t.Log(result)
	}
}
