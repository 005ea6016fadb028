package packages

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"inbox/e2e"
)

// lifecycleScript runs on a Debian booted with systemd and without a network. Each step
// writes a line that begins with "=", the last one "= done". Commands of docs/install.md
// replace the words in braces.
const lifecycleScript = `#!/bin/bash
exec >/root/lifecycle.log 2>&1
trap 'echo "= failed: $BASH_COMMAND"; systemctl status inbox; journalctl -u inbox | tail -50; systemctl poweroff; exit' ERR
set -Ee
export DEBIAN_FRONTEND=noninteractive

version() { "/proc/$(systemctl show -P MainPID inbox)/exe" version; }
reachable() { (exec 3<>/dev/tcp/127.0.0.1/443) 2>/dev/null; }
relays() { # the Binding request of STUN, and its answer
	exec 3<>/dev/udp/127.0.0.1/3478
	printf '\x00\x01\x00\x00\x21\x12\xa4\x42inboxinbox12' >&3
	[ "$(timeout 10 dd bs=64 count=1 status=none <&3 | head -c 2 | od -An -tx1)" = " 01 01" ]
}

{install}
systemctl is-active inbox inbox.socket inbox-http.socket inbox-turn.socket && reachable && relays && echo "= the documented commands start it"
{stop}
! systemctl is-active inbox.socket inbox-turn.socket && ! reachable && ! grep -q ':0D96 ' /proc/net/udp6 && [ ! -e /etc/systemd/system/sockets.target.wants/inbox.socket ] && echo "= the documented commands stop it"
yes | {forget}
[ ! -e /etc/inbox/inbox.env ] && [ ! -e /var/lib/inbox ] && [ ! -e /var/lib/private/inbox ] && echo "= the documented commands delete everything"

mkdir -p /etc/inbox && printf 'INBOX_DOMAIN=inbox.test\nINBOX_EMAIL=me@inbox.test\n' >/etc/inbox/inbox.env
apt-get -yq --no-install-recommends install /root/first.deb
systemctl is-active inbox && echo "= the configured service starts at installation"
reachable && echo "= port 443 accepts connections"
relays && echo "= UDP port 3478 answers STUN"
[ "$(version)" = "$(inbox version)" ]
secret=$(cat /var/lib/inbox/secret | sha256sum)
(cd /root; {backup})

while :; do if reachable; then echo ok; else echo refused; fi; sleep 0.01; done >/root/connects &
client=$!
before=$(version)
apt-get -yq --no-install-recommends install /root/second.deb
for i in $(seq 50); do [ "$(version)" != "$(inbox version)" ] || break; sleep 0.1; done
[ "$(version)" = "$(inbox version)" ] && [ "$(version)" != "$before" ]
kill "$client"
echo "= upgrade: $(grep -c ok /root/connects) connected, $(grep -c refused /root/connects || true) refused"

apt-get -yq remove inbox
! systemctl is-active inbox.socket && ! reachable && ! grep -q ':0D96 ' /proc/net/udp6 && echo "= removal closes the ports"
apt-get -yq --no-install-recommends install /root/second.deb
systemctl is-active inbox && echo "= a second installation starts it"
systemctl stop inbox.service inbox.socket inbox-http.socket inbox-turn.socket && systemctl disable inbox
apt-get -yq --no-install-recommends reinstall /root/second.deb
! systemctl is-active inbox && echo "= a disabled service stays disabled"
apt-get -yq purge inbox
[ "$(cat /var/lib/private/inbox/secret | sha256sum)" = "$secret" ] && echo "= the state survives the purge"
rm -rf /var/lib/inbox /var/lib/private/inbox
apt-get -yq --no-install-recommends install /root/second.deb
(cd /root; {restore})
systemctl is-active inbox && [ "$(stat -c %a /root/inbox-backup.tar.gz)" = 600 ] && [ "$(cat /var/lib/inbox/secret | sha256sum)" = "$secret" ] && echo "= the backup is restored"
echo "= done"
systemctl poweroff
`

// scriptUnit runs the script NAME after the boot.
const scriptUnit = `[Unit]
After=multi-user.target

[Service]
ExecStart=/bin/bash /root/NAME.sh

[Install]
WantedBy=default.target
`

// withDocCommands replaces the words in braces by the commands of docs/install.md, with the
// path of the package adapted and without prompts.
func withDocCommands(t *testing.T, script string) string {
	t.Helper()
	for name, after := range map[string]string{
		"{install}": "tools, with your host name and e-mail address:", "{stop}": "service off after a reboot:", "{forget}": "To remove everything:",
		"{backup}": "A backup can be made while the server runs:", "{restore}": "install the package there, then:",
	} {
		block, err := e2e.DocBlock("../../docs/install.md", after)
		if err != nil {
			t.Fatal(err)
		}
		block = strings.NewReplacer("./inbox_*_amd64.deb", "-y --no-install-recommends /root/first.deb").Replace(block)
		script = strings.ReplaceAll(script, name, strings.TrimSpace(block))
	}
	return script
}

// The package works with a real systemd. The machine is not registered with the systemd of
// the host, so nothing on the host changes.
func TestDebUnderSystemd(t *testing.T) {
	requireTools(t, "root", "systemd-nspawn")
	releases, r := buildReleases(t), newDebianRoot(t)
	runCommand(t, "cp", releases.original.file(t, "*.deb"), r.path("/root/first.deb"))
	runCommand(t, "cp", releases.newer.file(t, "*.deb"), r.path("/root/second.deb"))
	r.bootAndCheck("lifecycle", withDocCommands(t, lifecycleScript), []string{
		"the documented commands start it", "the documented commands stop it",
		"the documented commands delete everything", "the configured service starts at installation",
		"port 443 accepts connections", "UDP port 3478 answers STUN", " 0 refused", "removal closes the ports",
		"a second installation starts it", "a disabled service stays disabled",
		"the state survives the purge", "the backup is restored", "done",
	})
}

// bootAndCheck boots the root, runs a script as a service, and checks that its log,
// /root/NAME.log, has all steps. The script must end with a poweroff.
func (r debianRoot) bootAndCheck(name, script string, steps []string) {
	r.t.Helper()
	r.write("/root/"+name+".sh", script)
	r.write("/etc/systemd/system/"+name+".service", strings.ReplaceAll(scriptUnit, "NAME", name))
	r.run("systemctl", "enable", name+".service")
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemd-nspawn", "--quiet", "--directory", r.dir, "--private-network",
		"--register=no", "--keep-unit", "--console=pipe", "--boot").CombinedOutput()
	log := "/root/" + name + ".log"
	if !r.exists(log) {
		r.t.Fatalf("systemd did not boot: %v\n%s", err, out)
	}
	result := r.read(log)
	for _, want := range steps {
		if !strings.Contains(result, want+"\n") {
			r.t.Errorf("step missing: %s", want)
		}
	}
	for line := range strings.Lines(result) {
		if strings.HasPrefix(line, "= ") {
			r.t.Log(strings.TrimSpace(line))
		}
	}
	if r.t.Failed() {
		r.t.Log(result)
	}
}
