#!/bin/sh
# The exchanges of the table with wget.
url=$1 name=$2 dir=$3
head -c 8388608 /dev/zero >"$dir/large"

# request STEP PASSWORD TARGET [OPTION…]
request() {
	step=$1 password=$2 target=$3
	shift 3
	rm -f "$dir/body"
	wget -q -S -O "$dir/body" --tries=1 --content-on-error --auth-no-challenge --user="$name" --password="$password" \
		"$@" "$url$target" 2>"$dir/header"
	status=$(sed -n 's/^ *HTTP\/1.1 \([0-9]*\).*/\1/p' "$dir/header" | tail -n 1)
	echo "$step $status $(grep -o 'urn:inbox:problem:[a-z-]*' "$dir/body" || cat "$dir/body")"
}

request claim rabbit '/inbox?wait=0'
request wait rabbit '/inbox?wait=1'
request send rabbit "/inbox?to=$name" --post-data=hello
request receive rabbit '/inbox?after='
id=$(sed -n 's/^ *X-Message-Id: //p' "$dir/header")
request acknowledge rabbit "/inbox?after=$id&wait=0"
request large rabbit "/inbox?to=$name" --post-file="$dir/large"
request wrong wrong '/inbox?wait=0'
request large-wrong wrong "/inbox?to=$name" --post-file="$dir/large"
request delete rabbit /inbox --method=DELETE
