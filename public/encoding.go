package public

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
)

// coding is a content coding of HTTP (RFC 9110, section 8.4.1).
type coding string

const (
	identity   coding = "identity"
	gzipCoding coding = "gzip"
	brCoding   coding = "br"
)

// codings lists the codings, those with the shortest result first.
var codings = []coding{brCoding, gzipCoding, identity}

// compressible are the media types whose files compress well.
var compressible = map[string]bool{
	mediaTypes[".css"]: true, mediaTypes[".html"]: true, mediaTypes[".js"]: true, mediaTypes[".json"]: true,
	mediaTypes[".svg"]: true, mediaTypes[".txt"]: true, mediaTypes[".webmanifest"]: true,
}

// compress returns the compressed body. The levels are the highest: each file is
// compressed once.
func (c coding) compress(body []byte) []byte {
	var out bytes.Buffer
	switch c {
	case brCoding:
		w := brotli.NewWriterLevel(&out, brotli.BestCompression)
		w.Write(body) // a bytes.Buffer returns no errors
		w.Close()
	case gzipCoding:
		w, _ := gzip.NewWriterLevel(&out, gzip.BestCompression)
		w.Write(body)
		w.Close()
	default:
		return body
	}
	return out.Bytes()
}

// representation is a file in one coding.
type representation struct {
	etag string
	body []byte
}

// representations returns the functions that return a file in each coding. A file is
// compressed on its first request in a coding, by one goroutine.
func representations(etag string, body []byte) map[coding]func() representation {
	all := make(map[coding]func() representation, len(codings))
	for _, c := range codings {
		all[c] = sync.OnceValue(func() representation {
			r := representation{etag: strconv.Quote(etag), body: c.compress(body)}
			if c != identity {
				r.etag = strconv.Quote(etag + "-" + string(c)) // RFC 9110, section 8.8.3.3
			}
			return r
		})
	}
	return all
}

// maxEncodings is the number of codings of an Accept-Encoding field that are evaluated;
// browsers send five.
const maxEncodings = 16

// acceptedCoding returns the coding that a client prefers (RFC 9110, section 12.5.3), of
// equal ones the shortest. A client that accepts none gets identity.
func acceptedCoding(h http.Header) coding {
	weights := encodingWeights(h["Accept-Encoding"])
	best, bestWeight := identity, 0
	for _, c := range codings {
		weight, ok := weights[string(c)]
		if !ok {
			weight, ok = weights["*"]
		}
		if !ok && c == identity {
			weight = 1 // acceptable, but what the client lists is better
		}
		if weight > bestWeight {
			best, bestWeight = c, weight
		}
	}
	return best
}

// encodingWeights returns the weights of the codings in Accept-Encoding fields, in
// thousandths. Codings with an invalid weight, and those beyond maxEncodings, are left
// out.
func encodingWeights(fields []string) map[string]int {
	weights := map[string]int{}
	evaluated := 0
	for _, field := range fields {
		for item := range strings.SplitSeq(field, ",") {
			if evaluated++; evaluated > maxEncodings {
				return weights
			}
			name, parameter, found := strings.Cut(item, ";")
			if weight, ok := parseWeight(parameter); ok || !found {
				weights[strings.ToLower(strings.TrimSpace(name))] = weight
			}
		}
	}
	return weights
}

// parseWeight parses a weight such as "q=0.5" (RFC 9110, section 12.4.2) in thousandths.
// An empty parameter is the highest weight, and not valid.
func parseWeight(parameter string) (weight int, ok bool) {
	parameter = strings.TrimSpace(parameter)
	if parameter == "" {
		return 1000, false
	}
	value, ok := strings.CutPrefix(strings.ToLower(parameter), "q=")
	whole, decimals, _ := strings.Cut(value, ".")
	if !ok || whole != "0" && whole != "1" || len(decimals) > 3 || strings.Trim(decimals, "0123456789") != "" {
		return 0, false
	}
	weight, _ = strconv.Atoi(whole + (decimals + "000")[:3])
	return weight, weight <= 1000
}
