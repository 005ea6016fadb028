package topics

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseFrame(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		kind       kind
		protocol   Protocol
	}{
		{"y-webrtc subscribes", `{"type":"subscribe","topics":["a"]}`, subscribe, YWebRTC},
		{"to nothing", `{"type":"subscribe","topics":[]}`, subscribe, YWebRTC},
		{"Trystero subscribes", `{"type":"subscribe","topic":"a"}`, subscribe, Trystero},
		{"both", `{"type":"subscribe","topic":"a","topics":["b"]}`, subscribe, YWebRTC},
		{"to a number", `{"type":"subscribe","topics":7}`, subscribe, Unknown},
		{"to an object", `{"type":"subscribe","topic":{}}`, subscribe, Unknown},
		{"y-webrtc publishes", `{"type":"publish","topic":"a","data":{"type":"announce"}}`, publish, YWebRTC},
		{"without data", `{"type":"publish","topic":"a"}`, publish, YWebRTC},
		{"data and payload", `{"type":"publish","topic":"a","data":1,"payload":1}`, publish, YWebRTC},
		{"Trystero publishes", `{"type":"publish","topic":"a","payload":"x"}`, publish, Trystero},
		{"unsubscribe", `{"topics":["a"], "type":"unsubscribe"}`, unsubscribe, YWebRTC},
		{"ping", ` { "type" : "ping" } `, ping, Unknown},
		{"escapes", `{"\u0074ype":"pin\u0067"}`, ping, Unknown},
		{"the last type counts", `{"type":"ping","type":"publish"}`, publish, YWebRTC},
		{"keys have a case", `{"Type":"ping"}`, other, Unknown},
		{"unknown type", `{"type":"announce"}`, other, Unknown},
		{"type is a number", `{"type":1}`, other, Unknown},
		{"no type", `{}`, other, Unknown},
		{"empty", ``, other, Unknown},
		{"space", "\n ", other, Unknown},
		{"no object", `["type","ping"]`, other, Unknown},
		{"null", `null`, other, Unknown},
		{"a string", `"ping"`, other, Unknown},
		{"incomplete", `{"type":"ping"`, other, Unknown},
		{"two objects", `{"type":"ping"}{"type":"ping"}`, other, Unknown},
		{"deep", string(bytes.Repeat([]byte("["), 1<<20)), other, Unknown},
	} {
		if f := parseFrame([]byte(tt.text)); f.kind != tt.kind || f.protocol() != tt.protocol {
			t.Errorf("%s: got kind %q of %v, want %q of %v", tt.name, kindNames[f.kind], f.protocol(), kindNames[tt.kind], tt.protocol)
		}
	}
}

func TestIsValid(t *testing.T) {
	nested := func(n int, open, end string) string {
		return strings.Repeat(open, n) + "1" + strings.Repeat(end, n)
	}
	for _, text := range []string{
		`0`, `-0`, `-1.50e+10`, `1E-2`, `01`, `+1`, `.5`, `1.`, `1e`, `1e+`, `-`, `--1`, `0x1`, `1 2`, `Infinity`,
		`true`, `tru`, `truex`, `nul`, `false`, `null`, `True`, ``, ` `, `""`, `"`, `"\"`, `"\\"`, `"\u00aF"`, `"\u00a"`, `"\u00ag"`, `"\x"`, `"\`,
		"\"\n\"", "\"\x7f\"", "\"\x00\"", `"é" `, `[]`, `[ ]`, `[1,]`, `[,1]`, `[1 2]`, `[1,[2,{}],"]"]`, `[`, `]`, `[}`, `[1}`, `[[]`,
		`{}`, `{ }`, `{"a":1}`, `{"a":1,}`, `{,}`, `{"a"}`, `{"a":}`, `{a:1}`, `{1:1}`, `{"a":1 "b":2}`, `{"a":1,"b":[{"c":{}}]}`, `{"a":1]`, `{"a"::1}`,
		`{"a":1}}`, `{"a":1}x`, "\ufeff{}", "\v1", "{\"a\"\t:\r\n1 , \"b\" :2}",
		nested(maxDepth, "[", "]"), nested(maxDepth, `{"a":`, "}"), nested(maxDepth, "[", "}"),
	} {
		if got, want := isValid([]byte(text)), json.Valid([]byte(text)); got != want {
			t.Errorf("%.40q: got %v, want %v", text, got, want)
		}
	}
	for _, text := range []string{nested(maxDepth+1, "[", "]"), nested(maxDepth+1, `{"a":`, "}"), strings.Repeat("[", 1<<20)} {
		if isValid([]byte(text)) {
			t.Errorf("%.40q is valid, want it to be too deep", text)
		}
	}
}

// FuzzIsValid compares with encoding/json.
func FuzzIsValid(f *testing.F) {
	for _, text := range []string{
		`{"type":"publish","topic":"a","data":{"type":"signal","signal":{"sdp":"v=0\r\n"}}}`, `[1,-2.5e+3,true,false,null,"\u00e9\"",{"a":[]}]`,
		`{"a":1,}`, `[1,]`, `01`, `"\x"`, `{"a" 1}`, "\"\t\"", `[[[{}]]]`, ` {} {}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		isDeep := bytes.Count(text, []byte("["))+bytes.Count(text, []byte("{")) > maxDepth
		if got, want := isValid(text), json.Valid(text); got != want && !isDeep {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	})
}

func TestDeliveredFrames(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"as it came", `{"type":"publish","topic":"a","data":{"clients":7},"x":[1, 2]}`, `{"type":"publish","topic":"a","data":{"clients":7},"x":[1, 2],"clients":3}`},
		{"space", " {\"type\":\"publish\" ,\n\"topic\":\"a\"\n}\n", "{\"type\":\"publish\" ,\n\"topic\":\"a\",\"clients\":3}"},
		{"clients of the publisher", `{"clients":"x", "type":"publish","topic":"a","clients":{"a":1},"data":null}`, `{"type":"publish","topic":"a","data":null,"clients":3}`},
		{"escaped clients", `{"type":"publish","\u0063lients":1,"topic":"a"}`, `{"type":"publish","topic":"a","clients":3}`},
		{"payload", `{"payload" : "p" , "type":"publish","topic":"\u0061"}`, `{"topic":"\u0061","payload":"p"}`},
		{"payload is null", `{"type":"publish","topic":"a","payload":null}`, `{"topic":"a","payload":null}`},
		{"payload is an object", `{"type":"publish","topic":"a","payload":{"a":[{}, "}"]},"x":1}`, `{"topic":"a","payload":{"a":[{}, "}"]}}`},
		{"the last payload", `{"type":"publish","topic":"a","payload":1,"payload":-2.5e1}`, `{"topic":"a","payload":-2.5e1}`},
	} {
		f := parseFrame([]byte(tt.text))
		got := f.withClients(3)
		if f.protocol() == Trystero {
			got = f.withoutType()
		}
		if string(got) != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

// FuzzParseFrame compares what is read and delivered with encoding/json.
func FuzzParseFrame(f *testing.F) {
	for _, text := range []string{
		``, `{`, `{}`, `null`, `{"type":"subscribe","topics":["a","b\u0000",7,null,{}]}`, `{"type":"subscribe","topic":"a"}`,
		`{"type":"publish","topic":"a","data":"x","clients":1}`, `{"type":"publish","topic":"a","payload":[1,{"b":"\"}"}]}`,
		`{"type":"ping"}`, `{"type":"subscribe","topics":7}`, `{"\u0074ype":"ping","a":[[[]]],"b":-1.5e3 }`, " {\"type\"\t:\r\"ping\"\n} ",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !utf8.Valid(text) {
			return // no text of a WebSocket
		}
		if bytes.Count(text, []byte("["))+bytes.Count(text, []byte("{")) > maxDepth {
			return // encoding/json accepts what is deeper
		}
		f := parseFrame(text)
		var object map[string]json.RawMessage
		if err := json.Unmarshal(text, &object); err != nil || object == nil {
			if f.kind != other {
				t.Fatalf("got kind %q of what is no object: %q", kindNames[f.kind], text)
			}
			return
		}
		checkMembers(t, f, object)
		for value := range elements(cmpOr(f.topics, []byte("[]"))) {
			if !json.Valid(value) {
				t.Fatalf("got element %q of %q", value, f.topics)
			}
		}
		if f.kind != publish || f.topic == nil {
			return
		}
		checkDelivered(t, f.withClients(12), object, "clients", "12")
		if f.payload != nil {
			checkDelivered(t, f.withoutType(), map[string]json.RawMessage{"topic": object["topic"]}, "payload", string(f.payload))
		}
	})
}

func cmpOr(a, b []byte) []byte {
	if a == nil {
		return b
	}
	return a
}

// checkMembers compares the members of a frame with those of the object.
func checkMembers(t *testing.T, f frame, object map[string]json.RawMessage) {
	t.Helper()
	found := map[string]string{}
	for key, value := range members(f.text) {
		name, ok := unquote(key)
		if !ok {
			t.Fatalf("key %q of %q is no string", key, f.text)
		}
		found[name] = string(value)
	}
	if !slices.Equal(slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(object))) {
		t.Fatalf("got members %q of %q", found, f.text)
	}
	for name, value := range found {
		if value != string(bytes.Trim(object[name], space)) {
			t.Fatalf("got member %q = %q of %q, want %q", name, value, f.text, object[name])
		}
	}
}

// checkDelivered checks that text is the object with one member replaced.
func checkDelivered(t *testing.T, text []byte, object map[string]json.RawMessage, name, value string) {
	t.Helper()
	var got map[string]json.RawMessage
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if string(got[name]) != value {
		t.Fatalf("got %s = %s in %q, want %s", name, got[name], text, value)
	}
	delete(got, name)
	want := maps.Clone(object)
	delete(want, name)
	if !maps.EqualFunc(got, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
		t.Fatalf("got %q of %q", got, want)
	}
}

func BenchmarkParseFrame(b *testing.B) {
	text := []byte(`{"type":"publish","topic":"my-room-of-a-document","data":"` + string(bytes.Repeat([]byte("c2lnbmFs"), 60)) + `"}`)
	b.ReportAllocs()
	for b.Loop() {
		f := parseFrame(text)
		if f.kind != publish || len(f.withClients(2)) == 0 {
			b.Fatal("not parsed")
		}
	}
}
