#!/bin/sh
# Two mailboxes with curl: send, wait, acknowledge, stream, release.
#
#   sh mailbox.sh https://localhost:3000
#
# docs/protocol.md describes every request and every refusal.
set -eu
server=${1:-https://localhost:3000}
alice=alice-$$ bob=bob-$$ # names of your own: a name belongs to the first who uses it
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# -k accepts a self-signed certificate; leave it out for a server with a host name. --retry repeats
# a request that the server or the network refused for now, after the seconds of Retry-After.
# --fail-with-body turns the other refusals into a failure, and shows why.
request() { curl -sSk --retry 5 --retry-connrefused --fail-with-body "$@"; }
as_alice() { request -u "$alice:rabbit" "$@"; }
as_bob() { request -u "$bob:builder" "$@"; }

# Bob waits for a message. His first request claims his name. after= says that he acknowledges
# nothing yet: the message stays at the server until he does, so none is lost with an answer.
as_bob -D "$work/head" -o "$work/body" "$server/inbox?after=" &
waiting=$!

# Alice sends. wait=10 waits up to 10 seconds for Bob's name to be claimed.
as_alice -H 'Content-Type: text/plain' --data-binary 'hello Bob' "$server/inbox?to=$bob&wait=10"

wait $waiting
id=$(sed -n 's/^[Xx]-[Mm]essage-[Ii]d: \([0-9]*\).*/\1/p' "$work/head")
echo "Bob received: $(cat "$work/body")"

# He has not acknowledged the message, so he gets it again. A client repeats a request like this
# when the answer was lost.
echo "Bob received again: $(as_bob "$server/inbox?after=")"

# after=ID acknowledges the message with the next request. wait=0 does not wait for another one.
echo "Bob acknowledged: $(as_bob -w '%{http_code}' "$server/inbox?after=$id&wait=0")"

# A name that is not claimed: 404. The problem document says why, for programs in its type.
as_alice -d 'anyone?' "$server/inbox?to=nobody-$$" >"$work/body" 2>/dev/null || true
echo "Nobody: $(sed 's/.*"type": *"\([^"]*\)".*/\1/' "$work/body")"

# A stream receives all messages with one request. -N shows each line at once. A message is a JSON
# object in a line that begins with data:, after the line with its ID.
as_alice -H 'Content-Type: text/plain' --data-binary 'one' "$server/inbox?to=$bob"
as_alice -H 'Content-Type: text/plain' --data-binary 'two' "$server/inbox?to=$bob"
as_bob -N -H 'Accept: text/event-stream' "$server/inbox?after=" | while read -r field value; do
	case "$field $value" in
	"id: "*) id=$value ;;
	"data: {"*)
		echo "Bob streamed: $value"
		as_bob -X POST "$server/inbox/ack?upTo=$id"
		case $value in *two*) as_bob -X DELETE "$server/inbox" ;; esac # ends the stream
		;;
	"data: "*) echo "The stream ended: $value" ;;
	esac
done

# The STUN and TURN servers for a call. The credentials expire: ask again for each call.
as_alice "$server/ice" >"$work/ice"
echo "ICE servers: $(grep -o '"urls"' "$work/ice" | wc -l)"

# A name that is not released expires a minute after the last request.
as_alice -X DELETE "$server/inbox"
