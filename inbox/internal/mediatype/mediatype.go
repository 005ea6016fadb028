// Package mediatype has the types of messages: as senders give them, as receivers get them, and in
// the short form of streams.
package mediatype

import (
	"mime"
	"net/http"
	"strings"
)

// maxBytes bounds what is parsed, and maxCharsetBytes the only parameter that is passed on: the
// longest registered name of a charset has 45 bytes.
const (
	maxBytes        = 256
	maxCharsetBytes = 45
)

// Safe returns the media type to pass on, or "" for one that a browser
// could act on.
func Safe(sent string) string {
	switch sent {
	case "application/json", "application/sdp", "application/trickle-ice-sdpfrag", "text/plain", "text/plain;charset=UTF-8":
		return sent
	}
	base, params, err := mime.ParseMediaType(sent)
	if err != nil || len(sent) > maxBytes {
		return ""
	}
	switch base {
	case "application/json", "application/sdp", "application/trickle-ice-sdpfrag":
		return base
	case "text/plain":
		if charset := params["charset"]; charset != "" && len(charset) <= maxCharsetBytes {
			return mime.FormatMediaType(base, map[string]string{"charset": charset})
		}
		return base
	}
	return ""
}

// OrBytes returns the media type of a message for a receiver.
func OrBytes(mediaType string) string {
	if mediaType == "" {
		return "application/octet-stream"
	}
	return mediaType
}

// IsEncoded reports whether a body has an encoding that a receiver could not know: it is not
// passed on, and the server does not decode.
func IsEncoded(h http.Header) bool {
	for _, field := range h["Content-Encoding"] {
		for coding := range strings.SplitSeq(field, ",") {
			if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
				return true
			}
		}
	}
	return false
}

// Bytes is the short type of a message that is not text.
const Bytes = "bytes"

// shortTypes are the types of messages as streams have them, and their media types.
var shortTypes = [...]struct{ short, media string }{
	{"json", "application/json"},
	{"sdp", "application/sdp"},
	{"frag", "application/trickle-ice-sdpfrag"},
	{"text", "text/plain"},
	{Bytes, ""},
}

// Short returns the type of a message for a stream. Parameters are dropped.
func Short(mediaType string) string {
	base, _, _ := strings.Cut(mediaType, ";")
	for _, t := range shortTypes {
		if t.media == base {
			return t.short
		}
	}
	return Bytes
}

// Long returns the media type for a short type.
func Long(short string) (mediaType string, known bool) {
	for _, t := range shortTypes {
		if t.short == short {
			return t.media, true
		}
	}
	return "", false
}
