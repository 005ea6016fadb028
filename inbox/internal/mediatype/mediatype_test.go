package mediatype

import "testing"

func TestShortAndLong(t *testing.T) {
	for media, short := range map[string]string{
		"application/json": "json", "application/sdp": "sdp", "application/trickle-ice-sdpfrag": "frag",
		"text/plain": "text", "text/plain; charset=utf-8": "text", "text/plain;charset=UTF-8": "text", "": "bytes",
		"application/octet-stream": "bytes",
	} {
		if got := Short(media); got != short {
			t.Errorf("%s: got %s, want %s", media, got, short)
		}
		if long, known := Long(short); !known || Short(long) != short || Safe(long) != long {
			t.Errorf("%s: got %q, %v, want a type that is passed on", short, long, known)
		}
	}
	if _, known := Long("text/plain"); known {
		t.Error("got a media type for text/plain, want none")
	}
}
