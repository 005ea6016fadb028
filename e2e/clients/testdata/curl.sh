#!/bin/sh
# The exchanges of the table with curl.
url=$1 name=$2 dir=$3
head -c 8388608 /dev/zero >"$dir/large"

# request STEP USER:PASSWORD TARGET [OPTION…]
request() {
	step=$1 user=$2 target=$3
	shift 3
	status=$(curl -sS -o "$dir/body" -D "$dir/header" -w '%{http_code}' -u "$user" "$@" "$url$target")
	echo "$step $status $(grep -o 'urn:inbox:problem:[a-z-]*' "$dir/body" || cat "$dir/body")"
}

request claim "$name:rabbit" '/inbox?wait=0'
request wait "$name:rabbit" '/inbox?wait=1'
request send "$name:rabbit" "/inbox?to=$name" --data-binary hello
request receive "$name:rabbit" '/inbox?after='
id=$(tr -d '\r' <"$dir/header" | sed -n 's/^X-Message-Id: //p')
request acknowledge "$name:rabbit" "/inbox?after=$id&wait=0"
request large "$name:rabbit" "/inbox?to=$name" -H Expect: --data-binary "@$dir/large"
request large-expect "$name:rabbit" "/inbox?to=$name" -H 'Expect: 100-continue' --data-binary "@$dir/large"
request large-chunked "$name:rabbit" "/inbox?to=$name" -H Expect: -H 'Transfer-Encoding: chunked' --data-binary "@$dir/large"
request wrong "$name:wrong" '/inbox?wait=0'
request large-wrong "$name:wrong" "/inbox?to=$name" -H Expect: --data-binary "@$dir/large"
request delete "$name:rabbit" '/inbox' -X DELETE
