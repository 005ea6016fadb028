package peerjs

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"
)

func TestParseFrame(t *testing.T) {
	for _, row := range []struct {
		text         string
		kind         frameType
		dst, payload string
	}{
		{`{"type":"HEARTBEAT"}`, heartbeat, "", ""},
		{` { "type" : "HEARTBEAT" } `, heartbeat, "", ""},
		{`{"type":"OFFER","dst":"b","payload":{"a":"}\""}}`, offer, "b", `{"a":"}\""}`},
		{"{\"payload\" : [ 1 , {} ]\t,\"dst\":\"b\\u0041\",\n\"type\":\"ANSWER\"}", answer, "bA", `[ 1 , {} ]`},
		{`{"type":"CANDIDATE","dst":"b","payload":null}`, candidate, "b", `null`},
		{`{"type":"LEAVE","dst":"a","dst":"b"}`, leave, "b", ""},
		{`{"type":"EXPIRE","dst":7}`, expire, "", ""},
		{`{"type":"offer","dst":"b"}`, other, "b", ""},
		{`{"TYPE":"OFFER","dst":"b"}`, other, "b", ""},
		{`{"type":{"type":"OFFER"},"x":{"dst":"b"}}`, other, "", ""},
		{`{"type":"OFFER"`, other, "", ""}, {`[]`, other, "", ""}, {``, other, "", ""}, {`{}`, other, "", ""}, {`"OFFER"`, other, "", ""},
	} {
		f := parseFrame([]byte(row.text))
		if f.kind != row.kind || f.dst != row.dst || string(f.payload) != row.payload {
			t.Errorf("%s: got %v %q %s", row.text, f.kind, f.dst, f.payload)
		}
	}
}

// FuzzFrame compares the parser with encoding/json, and what is handed over with what was sent.
func FuzzFrame(f *testing.F) {
	for _, seed := range []string{
		`{"type":"OFFER","dst":"b","payload":{"a":["}",1,null]}}`, `{"type":"HEARTBEAT"}`, `{"dst":"\"\\","type":"LEAVE"}`,
		` {"a" : 1e5 , "type":"ANSWER","payload":"\u2028" , "dst":"x"} `, `{"type":7,"dst":{}}`, `[]`, ``, "\xff", `{"":{"":[[]]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !utf8.Valid(text) {
			return
		}
		got := parseFrame(text)
		var members map[string]json.RawMessage
		if json.Unmarshal(text, &members) != nil || members == nil {
			if got.kind != other {
				t.Fatalf("got %v for what is no object", got.kind)
			}
			return
		}
		if got.kind == other {
			return
		}
		if got.kind != heartbeat || got.dst != "" {
			var kind, dst string
			if json.Unmarshal(members["type"], &kind) != nil || kind != got.kind.String() {
				t.Fatalf("got type %v, want %s", got.kind, members["type"])
			}
			_ = json.Unmarshal(members["dst"], &dst)
			if dst != got.dst || !bytes.Equal(bytes.TrimSpace(members["payload"]), got.payload) {
				t.Fatalf("got %q %s, want %q %s", got.dst, got.payload, dst, members["payload"])
			}
		}
		var out struct {
			Type, Src, Dst string
			Payload        json.RawMessage
		}
		if got.dst == "" {
			got.dstText = quote("")
		}
		body := appendFrame(nil, got.kind, string(quote("a \"b\"")), got.dstText, got.payload)
		if err := json.Unmarshal(body, &out); err != nil || out.Type != got.kind.String() || out.Src != `a "b"` || out.Dst != got.dst {
			t.Fatalf("got %s (%v)", body, err)
		}
		if typeOf(body) != got.kind {
			t.Fatalf("got %v for %s", typeOf(body), body)
		}
	})
}

// FuzzJSON compares the scanner with encoding/json.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-0.5e+7,true,false,null,"\u00e9\n\"",{}]}`, `01`, `1.`, `-`, `"\x"`, `"\u12"`, `[1,]`, `{"a":}`, `{"a" 1}`, "\"\n\"", `{,}`, `[`, `tru`, `1 2`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s := jsonScanner{text: text}
		got := s.value(0)
		s.skipSpace()
		got = got && s.at == len(text)
		if want := json.Valid(text); got != want && (got || bytes.Count(text, []byte("["))+bytes.Count(text, []byte("{")) < maxDepth) {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	})
}

// FuzzControl has parsers of what is in a store, which other programs can write.
func FuzzControl(f *testing.F) {
	f.Add((&question{payer: "p"}).encode())
	f.Add((&reply{verdict: freed, acked: 7}).encode())
	f.Add(ownership{payer: "p"}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, ok := decodeQuestion(b); ok && !bytes.Equal(q.encode(), b) {
			t.Errorf("question: got %x, want %x", q.encode(), b)
		}
		if r, ok := decodeReply(b); ok && !bytes.Equal(r.encode(), b) {
			t.Errorf("reply: got %x, want %x", r.encode(), b)
		}
		if o, ok := decodeOwnership(b); ok && !bytes.HasSuffix(o.encode(), b[9:]) {
			t.Errorf("ownership: got %x, want %x", o.encode(), b)
		}
	})
}
