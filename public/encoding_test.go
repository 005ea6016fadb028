package public

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
)

func TestPreferredCoding(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fields []string
		want   coding
	}{
		{"no field", nil, identity},
		{"empty", []string{""}, identity},
		{"Chromium, Firefox", []string{"gzip, deflate, br, zstd"}, brCoding},
		{"plain HTTP", []string{"gzip, deflate"}, gzipCoding},
		{"unknown only", []string{"zstd, deflate"}, identity},
		{"upper case", []string{"GZIP"}, gzipCoding},
		{"any", []string{"*"}, brCoding},
		{"any but br", []string{"br;q=0, *"}, gzipCoding},
		{"none", []string{"*;q=0"}, identity},
		{"refused", []string{"br;q=0, gzip;q=0.0"}, identity},
		{"weights", []string{"br;q=0.5, gzip;q=0.6"}, gzipCoding},
		{"thousandths", []string{"br;q=0.001, gzip;q=0.002, identity;q=0"}, gzipCoding},
		{"identity first", []string{"identity, gzip;q=0.9"}, identity},
		{"equal weights", []string{"identity;q=0.5, gzip;q=0.5, br;q=0.5"}, brCoding},
		{"identity without a weight", []string{"gzip;q=0.001"}, gzipCoding},
		{"spaces", []string{" gzip ; q=1.000 ,\tbr ; Q=0"}, gzipCoding},
		{"several fields", []string{"gzip;q=0.5", "br"}, brCoding},
		{"weight above one", []string{"br;q=1.001"}, identity},
		{"invalid weights", []string{"br;q=, gzip;q=x"}, identity},
		{"other parameter", []string{"br;x=1"}, identity},
		{"negative weight", []string{"br;q=-1"}, identity},
		{"four decimals", []string{"br;q=0.1234"}, identity},
		{"too many", []string{strings.Repeat("x,", maxEncodings) + "gzip"}, identity},
		{"too many fields", append(strings.Split(strings.Repeat("x,", maxEncodings), ","), "gzip"), identity},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := preferredCoding(encodingWeights(tt.fields), codings); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func FuzzEncodingWeights(f *testing.F) {
	for _, seed := range []string{"", "gzip, deflate, br;q=0.5", "*;q=0", ";;,,q=", "br;q=1.0000"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, field string) {
		switch c := preferredCoding(encodingWeights([]string{field}), codings); {
		case c == identity:
		case !strings.Contains(strings.ToLower(field), string(c)) && !strings.Contains(field, "*"):
			t.Errorf("got %s for %q, which does not list it", c, field)
		}
	})
}

// waitForBrotli requests files until their Brotli representations are ready.
func waitForBrotli(t *testing.T, h http.Handler, paths ...string) {
	t.Helper()
	for _, path := range paths {
		for deadline := time.Now().Add(30 * time.Second); do(h, "GET", path, "Accept-Encoding", "br").Header.Get("Content-Encoding") != "br"; {
			if time.Now().After(deadline) {
				t.Fatalf("%s is not sent with Brotli after 30 s", path)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// A client does not wait for Brotli.
func TestBrotliIsPreparedMeanwhile(t *testing.T) {
	e := newEncodings("tag", []byte(strings.Repeat("export class Inbox {}\n", 1000)))
	header := func(fields ...string) http.Header { return http.Header{"Accept-Encoding": fields} }
	if c, _ := e.negotiate(header("gzip, br")); c != gzipCoding {
		t.Errorf("first: got %s, want gzip", c)
	}
	for deadline := time.Now().Add(30 * time.Second); e.br.Load() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("Brotli is not ready after 30 s")
		}
	}
	for fields, want := range map[string]coding{"gzip, br": brCoding, "br": brCoding, "gzip": gzipCoding, "": identity} {
		if c, _ := e.negotiate(header(fields)); c != want {
			t.Errorf("%q: got %s, want %s", fields, c, want)
		}
	}
}

// decode returns the decoded body of an answer.
func decode(t *testing.T, answer *http.Response) string {
	t.Helper()
	var body io.Reader = answer.Body
	switch coding := answer.Header.Get("Content-Encoding"); coding {
	case "br":
		body = brotli.NewReader(body)
	case "gzip":
		var err error
		if body, err = gzip.NewReader(body); err != nil {
			t.Fatal(err)
		}
	}
	decoded, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(decoded)
}

func TestEmbeddedInEachCoding(t *testing.T) {
	pages := Embedded(Options{})
	paths := []string{"/", "/inbox.js", "/style.css", "/favicon.svg", "/nothing"}
	waitForBrotli(t, pages, paths...)
	for _, path := range paths {
		plain := do(pages, "GET", path)
		want := bodyOf(t, plain)
		etags := map[string]bool{plain.Header.Get("Etag"): true}
		for _, c := range []coding{brCoding, gzipCoding} {
			answer := do(pages, "GET", path, "Accept-Encoding", string(c))
			wantEncoded(t, answer, string(c))
			if answer.ContentLength >= plain.ContentLength {
				t.Errorf("%s in %s: got %d bytes of %d, want fewer", path, c, answer.ContentLength, plain.ContentLength)
			}
			if got := decode(t, answer); got != want {
				t.Errorf("%s in %s: got %d other bytes", path, c, len(got))
			}
			etags[answer.Header.Get("Etag")] = true
		}
		if wantETags := map[bool]int{true: 3, false: 1}[plain.StatusCode == 200]; len(etags) != wantETags {
			t.Errorf("%s: got the ETags %v, want %d", path, etags, wantETags)
		}
	}
}

// wantEncoded checks the header of an encoded answer.
func wantEncoded(t *testing.T, answer *http.Response, coding string) {
	t.Helper()
	if got := answer.Header.Get("Content-Encoding"); got != coding {
		t.Errorf("got Content-Encoding %q, want %q", got, coding)
	}
	if got := answer.Header.Get("Vary"); got != "Accept-Encoding" {
		t.Errorf("got Vary %q, want Accept-Encoding", got)
	}
}

// A cache that has one coding must not get 304 for another.
func TestEmbeddedNotModifiedInEachCoding(t *testing.T) {
	pages := Embedded(Options{})
	waitForBrotli(t, pages, "/peer.js")
	for _, held := range []string{"", "gzip", "br"} {
		etag := do(pages, "GET", "/peer.js", "Accept-Encoding", held).Header.Get("Etag")
		for _, asked := range []string{"", "gzip", "br"} {
			answer := do(pages, "GET", "/peer.js", "Accept-Encoding", asked, "If-None-Match", etag)
			want := map[bool]int{true: http.StatusNotModified, false: http.StatusOK}[held == asked]
			if answer.StatusCode != want {
				t.Errorf("has %q, asks for %q: got status %d, want %d", held, asked, answer.StatusCode, want)
			}
			if got := answer.Header.Get("Vary"); got != "Accept-Encoding" {
				t.Errorf("has %q, asks for %q: got Vary %q, want Accept-Encoding", held, asked, got)
			}
		}
	}
}

func TestEmbeddedHeadInEachCoding(t *testing.T) {
	pages := Embedded(Options{})
	waitForBrotli(t, pages, "/")
	for _, c := range []string{"", "gzip", "br"} {
		get, head := do(pages, "GET", "/", "Accept-Encoding", c), do(pages, "HEAD", "/", "Accept-Encoding", c)
		for _, name := range []string{"Content-Encoding", "Content-Length", "Etag", "Vary"} {
			if got, want := head.Header.Get(name), get.Header.Get(name); got != want {
				t.Errorf("%q: HEAD has %s %q, GET %q", c, name, got, want)
			}
		}
		if body := bodyOf(t, head); body != "" {
			t.Errorf("%q: HEAD has a body of %d bytes", c, len(body))
		}
	}
}

// Images are compressed already.
func TestImagesAreNotCompressed(t *testing.T) {
	answer := do(Embedded(Options{}), "GET", "/favicon.ico", "Accept-Encoding", "gzip, br")
	if got := answer.Header.Get("Content-Encoding") + answer.Header.Get("Vary"); got != "" {
		t.Errorf("got Content-Encoding and Vary %q, want none", got)
	}
}

// A response to a module varies by origin as well.
func TestVaryIsAdded(t *testing.T) {
	pages := Embedded(Options{AllowOrigin: func(w http.ResponseWriter, _ *http.Request) { w.Header().Add("Vary", "Origin") }})
	answer := do(pages, "GET", "/inbox.js", "Accept-Encoding", "gzip")
	if got := strings.Join(answer.Header.Values("Vary"), ", "); got != "Origin, Accept-Encoding" {
		t.Errorf("got Vary %q, want Origin, Accept-Encoding", got)
	}
}

// BenchmarkCompress measures what the first request of each file costs.
// countedWriter counts the encoders that run at the same time.
type countedWriter struct {
	io.WriteCloser
	running *atomic.Int32
}

func (w countedWriter) Close() error {
	defer w.running.Add(-1)
	time.Sleep(time.Millisecond) // so that another encoder can begin
	return w.WriteCloser.Close()
}

// A client can request all files at once. Each encoder takes 2 MB, with a window of 4 MiB
// 32 MB: 64 of them would not fit in a small container.
func TestMemoryOfBrotliIsBounded(t *testing.T) {
	var running, most atomic.Int32
	original := newBrotliWriter
	t.Cleanup(func() { newBrotliWriter = original })
	newBrotliWriter = func(w io.Writer) io.WriteCloser {
		most.Store(max(most.Load(), running.Add(1)))
		return countedWriter{original(w), &running}
	}
	var done sync.WaitGroup
	for range 64 {
		done.Go(func() {
			body := brCoding.compress([]byte(strings.Repeat("text", 1000)))
			if window := body[0] & 0xf; window != 0b0011 {
				t.Errorf("got the window bits %04b, want those of 256 KiB (RFC 7932, section 9.1)", window)
			}
		})
	}
	done.Wait()
	if got := most.Load(); got != 1 {
		t.Errorf("got %d encoders at the same time, want 1", got)
	}
	for name, p := range loadEmbedded() {
		if compressible[p.mediaType] && len(p.body) > 1<<brotliWindowBits {
			t.Errorf("%s is longer than the window", name)
		}
	}
}

func BenchmarkCompress(b *testing.B) {
	for _, c := range []coding{brCoding, gzipCoding} {
		b.Run(string(c), func(b *testing.B) {
			total := 0
			for b.Loop() {
				total = 0
				for _, p := range loadEmbedded() {
					if compressible[p.mediaType] {
						total += len(c.compress(p.body))
					}
				}
			}
			b.ReportMetric(float64(total), "bytes")
		})
	}
}

func TestCompressIsDeterministic(t *testing.T) {
	body := []byte(strings.Repeat("export class Inbox {}\n", 100))
	for _, c := range codings {
		if !bytes.Equal(c.compress(body), c.compress(body)) {
			t.Errorf("%s: two results differ, so their ETags must, too", c)
		}
	}
}
