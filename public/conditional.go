package public

import (
	"net/http"
	"strings"
)

// maxConditionBytes is the length of the longest conditional field that is evaluated:
// about eight ETags. net/http compares a list of ETags one by one, and HTTP/2 clients
// repeat a long field at the cost of a few bytes.
const maxConditionBytes = 256

// matchesETag reports whether the client already has the page, so that 304 is enough.
// An overlong list of ETags does not match.
func matchesETag(r *http.Request, etag string) bool {
	list := r.Header["If-None-Match"]
	if len(list) != 1 || len(list[0]) > maxConditionBytes {
		return false
	}
	return strings.TrimSpace(list[0]) == "*" || strings.Contains(list[0], etag)
}

// cheapConditions returns a copy of the request for http.ServeContent. Its header has at
// most one range and no long conditions: many ranges of one file cost hundreds of times
// the processor time and the memory of a plain request.
func cheapConditions(r *http.Request) *http.Request {
	kept := http.Header{}
	copied := *r
	copied.Header = kept
	for _, name := range []string{"If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range"} {
		switch values := r.Header[name]; {
		case len(values) == 0:
		case len(values) > 1 || len(values[0]) > maxConditionBytes:
			copied.Header = http.Header{} // without one condition the others mean something else
			return &copied
		default:
			kept[name] = values
		}
	}
	if values := r.Header["Range"]; r.Method == http.MethodGet && len(values) == 1 && isSingleRange(values[0]) {
		kept["Range"] = values
	}
	return &copied
}

// isSingleRange reports whether a Range field holds exactly one byte range (RFC 9110,
// section 14.1.2). Every other field is ignored, as section 14.2 permits: the response
// is the whole file.
func isSingleRange(value string) bool {
	spec, ok := strings.CutPrefix(value, "bytes=")
	first, last, found := strings.Cut(spec, "-")
	return ok && found && first+last != "" && isPosition(first) && isPosition(last)
}

// isPosition reports whether s is empty or a number that fits into 63 bits.
func isPosition(s string) bool {
	return len(s) <= 18 && strings.Trim(s, "0123456789") == ""
}
