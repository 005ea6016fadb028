package packages

import (
	"os"
	"path/filepath"
	"testing"
)

// setupScript runs on a Debian booted with systemd, whose only network is loopback, beside a CA
// and its name server. Each step writes a line that begins with "=", the last one "= done".
const setupScript = `#!/bin/bash
exec >/root/setup.log 2>&1
trap 'echo "= failed: $BASH_COMMAND"; systemctl status inbox; journalctl -u inbox | tail -50; systemctl poweroff; exit' ERR
set -Ee
export DEBIAN_FRONTEND=noninteractive
# exits runs a command whose exit code must be the first argument.
exits() { local want=$1 code=0; shift; "$@" || code=$?; [ $code = $want ]; }

echo nameserver 127.0.0.1 >/etc/resolv.conf
/root/testca -root /root/ca.pem &
until [ -s /root/ca.pem ] && (exec 3<>/dev/tcp/127.0.0.1/14000) 2>/dev/null; do sleep 0.1; done
ca="-acme-ca https://127.0.0.1:14000/dir -acme-root /etc/inbox/ca.pem"

dpkg-deb -x /root/first.deb /root/unpacked
exits 2 /root/unpacked/usr/bin/inbox setup -domain inbox.test -email me@inbox.test && echo "= without the package it says how to install it"

apt-get -yq --no-install-recommends install /root/first.deb
install -m 644 /root/ca.pem /etc/inbox/ca.pem
exits 0 inbox setup -domain inbox.test -email me@inbox.test $ca -dry-run
! systemctl is-active inbox && ! grep -q ^INBOX_ /etc/inbox/inbox.env && echo "= a dry run changes nothing"
exits 1 inbox setup -domain inbox.test -email me@inbox.test -acme-ca https://127.0.0.1:1/dir
! systemctl is-active inbox && ! grep -q ^INBOX_ /etc/inbox/inbox.env && echo "= a failure of the doctor changes nothing"

printf 'inbox.test\nme@inbox.test\n' | inbox setup $ca
systemctl is-active inbox && systemctl is-enabled inbox && echo "= it starts the service"
grep -x INBOX_DOMAIN=inbox.test /etc/inbox/inbox.env && grep -x INBOX_METRICS_BIND=127.0.0.1:9091 /etc/inbox/inbox.env
grep -x '#INBOX_RATE=40' /etc/inbox/inbox.env && ls /etc/inbox/inbox.env.*.bak && echo "= it writes the options and a backup"
[ -n "$(find /var/lib/private/inbox/acme -name '*inbox.test*.crt')" ] && echo "= the certificate of the CA is stored"
inbox health && inbox health -env-file /etc/inbox/inbox.env && echo "= the service is healthy"
inbox doctor -env-file /etc/inbox/inbox.env -state /var/lib/inbox && echo "= the doctor finds no failure"

printf '\n\n' | inbox setup
[ "$(ls /etc/inbox/inbox.env.*.bak | wc -l)" = 1 ] && systemctl is-active inbox && echo "= it can be repeated"
echo "= done"
systemctl poweroff
`

// buildTestCA builds the CA and its name server as a static program.
func buildTestCA(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "testca")
	if err := script(`CGO_ENABLED=0 go build -o "$1" ../testca`, program); err != nil {
		t.Fatal(err)
	}
	return program
}

// A fresh Debian gets from nothing to a certificate with the package and inbox setup.
func TestSetupUnderSystemd(t *testing.T) {
	requireTools(t, "root", "systemd-nspawn")
	r := newDebianRoot(t)
	runCommand(t, "cp", buildReleases(t).original.file(t, "*.deb"), r.path("/root/first.deb"))
	runCommand(t, "cp", buildTestCA(t), r.path("/root/testca"))
	r.bootAndCheck("setup", setupScript, []string{
		"without the package it says how to install it", "a dry run changes nothing", "a failure of the doctor changes nothing",
		"it starts the service", "it writes the options and a backup", "the certificate of the CA is stored",
		"the service is healthy", "the doctor finds no failure", "it can be repeated", "done",
	})
}

// A container with the command of compose.yaml gets from nothing to a certificate. The CA connects
// to the ports inside, as the published ports lead there.
func TestContainerObtainsCertificate(t *testing.T) {
	root := imageOfRelease(t)
	text, err := os.ReadFile("../../compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"80:3080"`, `"443:3000"`, `"3478:3478/udp"`, `state:/var/lib/inbox`, `["./inbox", "-bind", ":3000", "-http-bind", ":3080"]`} {
		wantContains(t, string(text), want)
	}
	state, conf := t.TempDir(), t.TempDir()
	runCommand(t, "chown", "65532", state)
	out, err := runScript(containerSetupScript, root, state, conf, buildTestCA(t), containerScript)
	if err != nil {
		t.Fatal(err)
	}
	wantContains(t, out, "issuer=CN = Pebble Intermediate CA")
}

// containerSetupScript runs a CA and the container in a network of their own.
const containerSetupScript = `
exec unshare --net --mount --kill-child --fork bash -euc '
	root=$1 state=$2 conf=$3 testca=$4 script=$5
	trap "kill \$(jobs -p) && wait" EXIT
	ip link set lo up
	"$testca" -http-port 3080 -tls-port 3000 -root "$conf/ca.pem" >"$conf/ca.log" 2>&1 &
	until [ -s "$conf/ca.pem" ] && (exec 3<>/dev/tcp/127.0.0.1/14000) 2>/dev/null; do sleep 0.1; done
	chmod 755 "$conf"
	echo nameserver 127.0.0.1 >"$conf/resolv.conf"
	mkdir -p "$root/etc" && cp "$conf/resolv.conf" "$root/etc/resolv.conf" && cp "$conf/ca.pem" "$root/cert/ca.pem"
	sh -euc "$script" sh "$root" "$state" /var/lib/inbox ./inbox -bind :3000 -http-bind :3080 \
		-domain inbox.test -email me@inbox.test -acme-ca https://127.0.0.1:14000/dir -acme-root /cert/ca.pem >"$conf/log" 2>&1 &
	for i in $(seq 600); do
		if openssl s_client -connect 127.0.0.1:3000 -servername inbox.test </dev/null 2>/dev/null | openssl x509 -noout -issuer 2>/dev/null; then exit 0; fi
		sleep 0.1
	done
	cat "$conf/log"; exit 1
' bash "$@"`
