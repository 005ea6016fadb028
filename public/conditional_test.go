package public

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// manyRanges is a field with n ranges of one byte.
func manyRanges(n int) string {
	var b strings.Builder
	b.WriteString("bytes=0-0")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, ",%d-%d", i, i)
	}
	return b.String()
}

func TestEmbeddedIgnoresRanges(t *testing.T) {
	whole := bodyOf(t, do(Embedded(Options{}), "GET", "/style.css"))
	for _, value := range []string{"bytes=0-14", "bytes=-1", "bytes=0-0,1-1", manyRanges(3990), "bytes=999999999-", "nonsense"} {
		answer := do(Embedded(Options{}), "GET", "/style.css", "Range", value)
		wantStatus(t, answer, http.StatusOK)
		if got := answer.Header.Get("Accept-Ranges"); got != "none" {
			t.Errorf("%.20q: got Accept-Ranges %q, want none", value, got)
		}
		if got := bodyOf(t, answer); got != whole {
			t.Errorf("%.20q: got %d bytes, want the whole page of %d", value, len(got), len(whole))
		}
	}
}

func TestDirServesAtMostOneRange(t *testing.T) {
	h := openDir(t, writeFiles(t, map[string]string{"digits.txt": "0123456789"}))
	for _, tt := range []struct {
		ranges []string
		status int
		body   string
	}{
		{[]string{"bytes=2-4"}, 206, "234"},
		{[]string{"bytes=7-"}, 206, "789"},
		{[]string{"bytes=-2"}, 206, "89"},
		{[]string{"bytes=8-99"}, 206, "89"},
		{[]string{"bytes=10-"}, 416, ""},
		{[]string{"bytes=0-0,2-2"}, 200, "0123456789"},
		{[]string{"bytes=0-0,"}, 200, "0123456789"},
		{[]string{"bytes=,,,,0-0"}, 200, "0123456789"},
		{[]string{"bytes= 0-0"}, 200, "0123456789"},
		{[]string{"bytes=0-0", "bytes=2-2"}, 200, "0123456789"},
		{[]string{manyRanges(3990)}, 200, "0123456789"},
		{[]string{"bytes=" + strings.Repeat(",", 16000)}, 200, "0123456789"},
		{[]string{"bytes=" + strings.Repeat("0", 16000) + "-1"}, 200, "0123456789"},
		{[]string{"bytes=0-" + strings.Repeat("9", 30)}, 200, "0123456789"},
		{[]string{"bytes=-"}, 200, "0123456789"},
		{[]string{"bytes=--1"}, 200, "0123456789"},
		{[]string{"bytes=1-2-3"}, 200, "0123456789"},
		{[]string{"items=0-1"}, 200, "0123456789"},
		{[]string{""}, 200, "0123456789"},
	} {
		var fields []string
		for _, value := range tt.ranges {
			fields = append(fields, "Range", value)
		}
		answer := do(h, "GET", "/digits.txt", fields...)
		if answer.StatusCode != tt.status {
			t.Errorf("%.30q: got status %d, want %d", tt.ranges, answer.StatusCode, tt.status)
			continue
		}
		if got := bodyOf(t, answer); tt.body != "" && got != tt.body {
			t.Errorf("%.30q: got %q, want %q", tt.ranges, got, tt.body)
		}
	}
	answer := do(h, "HEAD", "/digits.txt", "Range", "bytes=0-0")
	wantStatus(t, answer, http.StatusOK)
}

func TestEmbeddedMatchesETag(t *testing.T) {
	pages := Embedded(Options{})
	etag := do(pages, "GET", "/inbox.js").Header.Get("Etag")
	for _, tt := range []struct {
		name   string
		fields []string
		want   int
	}{
		{"alone", []string{"If-None-Match", etag}, 304},
		{"weak", []string{"If-None-Match", "W/" + etag}, 304},
		{"in a list", []string{"If-None-Match", `"a", ` + etag + `, "b"`}, 304},
		{"any", []string{"If-None-Match", " * "}, 304},
		{"another", []string{"If-None-Match", `"a"`}, 200},
		{"unquoted", []string{"If-None-Match", strings.Trim(etag, `"`)}, 200},
		{"at the end of a long list", []string{"If-None-Match", strings.Repeat(`"a",`, 4000) + etag}, 200},
		{"two fields", []string{"If-None-Match", etag, "If-None-Match", etag}, 200},
		{"a date", []string{"If-Modified-Since", time.Now().UTC().Format(http.TimeFormat)}, 200},
		{"a precondition", []string{"If-Match", `"a"`, "If-Range", `"a"`, "If-Unmodified-Since", "x"}, 200},
	} {
		if got := do(pages, "GET", "/inbox.js", tt.fields...).StatusCode; got != tt.want {
			t.Errorf("%s: got status %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestDirConditions(t *testing.T) {
	h := openDir(t, writeFiles(t, map[string]string{"digits.txt": "0123456789"}))
	date := do(h, "GET", "/digits.txt").Header.Get("Last-Modified")
	long := strings.Repeat(`"a",`, 4000)
	for _, tt := range []struct {
		name   string
		fields []string
		want   int
	}{
		{"not modified", []string{"If-Modified-Since", date}, 304},
		{"an ETag decides", []string{"If-Modified-Since", date, "If-None-Match", `"a"`}, 200},
		{"a long list of ETags", []string{"If-Modified-Since", date, "If-None-Match", long}, 200},
		{"a long list of required ETags", []string{"If-Match", long}, 200},
		{"a long date", []string{"If-Modified-Since", date + strings.Repeat(" ", 1000)}, 200},
		{"a range if unmodified", []string{"Range", "bytes=0-0", "If-Range", date}, 206},
		{"a range if another ETag", []string{"Range", "bytes=0-0", "If-Range", `"a"`}, 200},
		{"a range if a long list", []string{"Range", "bytes=0-0", "If-Range", long}, 200},
		{"two conditions of a range", []string{"Range", "bytes=0-0", "If-Range", date, "If-Range", date}, 200},
		{"too late", []string{"If-Unmodified-Since", "Mon, 01 Jan 2001 00:00:00 GMT"}, 412},
		{"many encodings", []string{"Accept-Encoding", strings.Repeat("gzip;q=0.1,", 1400)}, 200},
	} {
		if got := do(h, "GET", "/digits.txt", tt.fields...).StatusCode; got != tt.want {
			t.Errorf("%s: got status %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestConditionsLeaveRequestUnchanged(t *testing.T) {
	h := openDir(t, writeFiles(t, map[string]string{"digits.txt": "0123456789"}))
	r, err := http.NewRequest("GET", "/digits.txt", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Range", "bytes=0-0,1-1")
	h.ServeHTTP(discard{}, r)
	if got := r.Header.Get("Range"); got != "bytes=0-0,1-1" {
		t.Errorf("got Range %q after the request, want it unchanged", got)
	}
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

// FuzzConditions checks that no combination of fields makes a response larger than the
// file or a multipart response.
func FuzzConditions(f *testing.F) {
	f.Add("bytes=0-1", "", "", "")
	f.Add("bytes=0-0,1-1", `"a"`, "*", "Mon, 01 Jan 2001 00:00:00 GMT")
	f.Add("bytes=-5", `W/"a"`, `"b", "c"`, "")
	h := openDir(f, writeFiles(f, map[string]string{"digits.txt": "0123456789"}))
	pages := Embedded(Options{})
	f.Fuzz(func(t *testing.T, ranges, ifRange, ifNoneMatch, since string) {
		fields := []string{"Range", ranges, "If-Range", ifRange, "If-None-Match", ifNoneMatch, "If-Modified-Since", since}
		answer := do(h, "GET", "/digits.txt", fields...)
		if body := bodyOf(t, answer); len(body) > 10 && answer.StatusCode < 400 || strings.HasPrefix(answer.Header.Get("Content-Type"), "multipart/") {
			t.Errorf("got status %d and %q, want at most one range of the file", answer.StatusCode, body)
		}
		if answer := do(pages, "GET", "/style.css", fields...); answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusNotModified {
			t.Errorf("embedded page: got status %d, want 200 or 304", answer.StatusCode)
		}
	})
}
