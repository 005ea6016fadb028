package public

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

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

// brotliWindowBits is the window of Brotli, 256 KiB: no file is longer. The memory of an
// encoder grows with it, from 2 MB to 32 MB for the default of 4 MiB.
const brotliWindowBits = 18

// brMu and gzipMu let one file at a time be compressed, because a client can request all
// files at once.
var brMu, gzipMu sync.Mutex

// newBrotliWriter is a variable for tests.
var newBrotliWriter = func(w io.Writer) io.WriteCloser {
	return brotli.NewWriterOptions(w, brotli.WriterOptions{Quality: brotli.BestCompression, LGWin: brotliWindowBits})
}

// compress returns the compressed body. The levels are the highest: each file is
// compressed once.
func (c coding) compress(body []byte) []byte {
	var out bytes.Buffer
	switch c {
	case brCoding:
		brMu.Lock()
		defer brMu.Unlock()
		w := newBrotliWriter(&out)
		w.Write(body) // a bytes.Buffer returns no errors
		w.Close()
	case gzipCoding:
		gzipMu.Lock()
		defer gzipMu.Unlock()
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

// encodings is a file in all codings. A file is compressed when a client first accepts
// the coding, and then kept.
type encodings struct {
	etag string // without quotes
	body []byte

	gzip    func() *representation
	brStart sync.Once
	br      atomic.Pointer[representation] // nil until it is ready
}

func newEncodings(etag string, body []byte) *encodings {
	e := &encodings{etag: etag, body: body}
	e.gzip = sync.OnceValue(func() *representation { return e.in(gzipCoding) })
	return e
}

// in compresses the file.
func (e *encodings) in(c coding) *representation {
	etag := e.etag
	if c != identity {
		etag += "-" + string(c) // each coding has its own: RFC 9110, section 8.8.3.3
	}
	return &representation{etag: strconv.Quote(etag), body: c.compress(e.body)}
}

// negotiate returns the representation for a client. Brotli takes up to half a
// second per file: the first client gets gzip, and Brotli is prepared meanwhile.
func (e *encodings) negotiate(h http.Header) (coding, *representation) {
	weights := encodingWeights(h["Accept-Encoding"])
	c := preferredCoding(weights, codings)
	if c == brCoding {
		if ready := e.br.Load(); ready != nil {
			return c, ready
		}
		e.brStart.Do(func() { go func() { e.br.Store(e.in(brCoding)) }() })
		c = preferredCoding(weights, codings[1:])
	}
	if c == gzipCoding {
		return c, e.gzip()
	}
	return identity, e.in(identity)
}

// maxEncodings is the number of codings of an Accept-Encoding field that are evaluated;
// browsers send five.
const maxEncodings = 16

// preferredCoding returns the coding of a list that a client prefers (RFC 9110, section
// 12.5.3), of equal ones the first. A client that accepts none gets identity.
func preferredCoding(weights map[string]int, list []coding) coding {
	best, bestWeight := identity, 0
	for _, c := range list {
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
