# Functions of scripts/test and scripts/soak, which source this file. Each defines
# step_NAME functions and calls run_steps.
# shellcheck shell=bash

root=$PWD
tools=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/inbox-tools
modules=(. e2e docs/examples/go)

PATH=$tools/node/node_modules/.bin:$tools:$PATH # step_install puts programs here

staticcheck_version=v0.8.2
govulncheck_version=v1.9.0
next_go=go1.27.0 # the newest Go release line, which users may build with

# run_steps runs the named steps and prints the duration of each.
run_steps() {
	command -v go >/dev/null || die "Go is missing: install Go 1.26 or newer from https://go.dev/dl/"
	local began=$SECONDS step
	for step in "$@"; do
		local from=$SECONDS
		printf '\n=== %s\n' "$step"
		"step_$step"
		printf '=== %s: passed in %d s\n' "$step" $((SECONDS - from))
	done
	printf '\nall passed in %d s\n' $((SECONDS - began))
}

die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

each_module() {
	local module
	for module in "${modules[@]}"; do (cd "$root/$module" && "$@"); done
}

# step_install installs missing programs on Debian as root. Elsewhere it only lists
# them.
step_install() {
	local want=()
	command -v gcc >/dev/null || want+=(gcc libc6-dev) # for the race detector
	command -v chromium >/dev/null || [ -n "${CHROMIUM:-}" ] || want+=(chromium)
	command -v firefox-esr >/dev/null || [ -n "${FIREFOX:-}" ] || want+=(firefox-esr)
	{ command -v WebKitWebDriver && command -v Xvfb; } >/dev/null || want+=(webkit2gtk-driver xvfb)
	command -v testssl >/dev/null || want+=(testssl.sh)
	[ -x /lib/systemd/systemd ] || want+=(systemd)
	command -v ip >/dev/null || want+=(iproute2)
	command -v curl >/dev/null || want+=(curl)
	{ command -v redis-server && command -v redis-cli; } >/dev/null || want+=(redis-server) # comes with redis-cli
	{ command -v node && command -v npm; } >/dev/null || want+=(nodejs npm)
	command -v wget >/dev/null || want+=(wget)
	/usr/bin/python3 -c 'import requests, aiohttp' 2>/dev/null || want+=(python3-requests python3-aiohttp)
	/usr/bin/python3 -c 'import aiortc' 2>/dev/null || want+=(python3-aiortc)
	command -v debootstrap >/dev/null || want+=(debootstrap)
	command -v rpm >/dev/null || want+=(rpm)
	command -v dnf >/dev/null || want+=(dnf)
	command -v lintian >/dev/null || want+=(lintian)
	command -v buildah >/dev/null || want+=(buildah)
	command -v systemd-nspawn >/dev/null || want+=(systemd-container)
	command -v nft >/dev/null || want+=(nftables)
	command -v certutil >/dev/null || want+=(libnss3-tools)
	if [ ${#want[@]} -gt 0 ]; then
		command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || die "missing programs: install ${want[*]}"
		apt-get update -q >/dev/null
		DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${want[@]}" >/dev/null
	fi
	alone prometheus usr/bin/promtool
	alone nginx usr/sbin/nginx
	alone libnginx-mod-stream usr/lib/nginx/modules/ngx_stream_module.so
	alone caddy usr/bin/caddy
	with_libraries haproxy usr/sbin/haproxy
	with_libraries coturn usr/bin/turnserver usr/bin/turnutils_stunclient usr/bin/turnutils_uclient
	install_certbot
	modern_node || npm install --silent --prefix "$tools/node" node@22
	tool staticcheck "honnef.co/go/tools/cmd/staticcheck@$staticcheck_version"
	tool govulncheck "golang.org/x/vuln/cmd/govulncheck@$govulncheck_version"
	(cd e2e/pages && npm ci --no-audit --no-fund --silent)
	command -v javac >/dev/null || echo "missing, so not tested: Java's HTTP clients (default-jdk-headless)"
	echo "installed"
}

# modern_node succeeds if node is version 20 or newer. Debian 12 has 18.
modern_node() { node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; }

# alone extracts programs from a Debian package without installing the package, which
# would start a server.
alone() {
	local package=$1 into
	shift
	command -v "${1##*/}" >/dev/null && return
	command -v dpkg-deb >/dev/null && command -v apt-get >/dev/null || die "missing programs: install ${*##*/}"
	into=$(mktemp -d)
	apt-get update -q >/dev/null
	(cd "$into" && apt-get download -q -o APT::Sandbox::User=root "$package" >/dev/null && dpkg-deb -x "$package"_*.deb .)
	install -D -t "$tools" "${@/#/$into/}"
	rm -r "$into"
}

# with_libraries extracts programs as alone does, and installs the libraries of their package.
with_libraries() {
	command -v "${2##*/}" >/dev/null && return
	[ "$(id -u)" = 0 ] || die "missing programs: install $1"
	alone "$@"
	# shellcheck disable=SC2046 # one word per library
	DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-upgrade --no-install-recommends \
		$(apt-cache depends "$1" | sed -n 's/^ *Depends: \(lib.*\)/\1/p') >/dev/null
}

# install_certbot installs certbot without its package, which would start a timer.
install_certbot() {
	command -v certbot >/dev/null && return
	[ "$(id -u)" = 0 ] || die "missing programs: install certbot"
	DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends python3-certbot >/dev/null
	alone certbot usr/bin/certbot
}

# tool installs a Go tool, once per version.
tool() {
	local stamp=$tools/$1-${2##*@}
	[ -e "$stamp" ] || { GOBIN=$tools go install "$2" && touch "$stamp"; }
}
