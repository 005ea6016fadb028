package wire

import (
	"bytes"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, row := range []struct {
		frame string
		want  Frame
	}{
		{"hello bob secret", Frame{Verb: Hello, Name: "bob", Password: "secret"}},
		{"hello b%20b s%25 after=", Frame{Verb: Hello, Name: "b b", Password: "s%", Query: "after="}},
		{"hello b+b s after=7 invite=x client=y", Frame{Verb: Hello, Name: "b+b", Password: "s", Query: "after=7&invite=x&client=y"}},
		{"ack 17", Frame{Verb: Ack, Number: 17}},
		{"ping", Frame{Verb: Ping}},
		{"send 1 alice text hi there", Frame{Verb: Send, Number: 1, To: "alice", Type: "text", Body: []byte("hi there")}},
		{"send 1 alice text ", Frame{Verb: Send, Number: 1, To: "alice", Type: "text", Body: []byte{}}},
		{"send 2 al%20ice?wait=5 json  {}", Frame{Verb: Send, Number: 2, To: "al ice", Query: "wait=5", Type: "json", Body: []byte(" {}")}},
		{"send 18446744073709551615 a bytes \xff\n\x00", Frame{Verb: Send, Number: 1<<64 - 1, To: "a", Type: "bytes", Body: []byte("\xff\n\x00")}},
	} {
		if got, err := Parse([]byte(row.frame)); err != nil || !reflect.DeepEqual(got, row.want) {
			t.Errorf("%q: got %+v, %v, want %+v", row.frame, got, err, row.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for frame, want := range map[string]error{
		"": errVerb, "hi": errVerb, "Hello a b": errVerb, " ack 1": errVerb, "msg 1 a text x": errVerb, "ping ": errVerb, "ping 1": errVerb, "pong": errVerb,
		"hello": errFields, "hello a": errFields, "hello  b": errFields, "hello %zz b": errEncoding, "hello a %": errEncoding,
		"ack": errNumber, "ack ": errNumber, "ack x": errNumber, "ack +1": errNumber, "ack -1": errNumber, "ack 1 ": errNumber, "ack 18446744073709551616": errNumber,
		"send": errFields, "send 1 a text": errFields, "send 1  text x": errFields, "send 1 a  x": errFields, "send 1 ?wait=1 text x": errFields, "send x a text x": errNumber, "send 1 %zz text x": errEncoding,
	} {
		if got, err := Parse([]byte(frame)); err != want {
			t.Errorf("%q: got %+v, %v, want %v", frame, got, err, want)
		}
	}
}

func TestAppend(t *testing.T) {
	for want, got := range map[string][]byte{
		"welcome 7 65536 64 25":       AppendWelcome(nil, 7, 65536, 64, 25),
		"ok 3":                        AppendOK(nil, 3),
		"fail 0 ":                     AppendFail(nil, 0),
		"msg 5 Zo%C3%AB%20%25 bytes ": AppendMessage(nil, 5, "Zoë %", "bytes"),
		"end superseded":              AppendEnd(nil, "superseded"),
	} {
		if string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// FuzzParse checks that what is accepted means the same when it is written again.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"hello b%20b s%25 after=7 invite=x", "ack 17", "send 2 al%20ice?wait=5 json {}", "send 1 a bytes \xff\x00", "hello a b  c", "ping"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		frame, err := Parse(bytes.Clone(sent))
		if err != nil {
			return
		}
		again, err := Parse(write(frame))
		if err != nil || !reflect.DeepEqual(again, frame) {
			t.Errorf("%q became %+v, which became %+v, %v", sent, frame, again, err)
		}
		if IsAck(sent) != (frame.Verb == Ack) {
			t.Errorf("%q: IsAck is %v", sent, IsAck(sent))
		}
	})
}

// write is the opposite of Parse.
func write(f Frame) []byte {
	switch f.Verb {
	case Hello:
		s := "hello " + url.PathEscape(f.Name) + " " + url.PathEscape(f.Password)
		if f.Query != "" {
			s += " " + strings.ReplaceAll(f.Query, "&", " ")
		}
		return []byte(s)
	case Ack:
		return fmt.Appendf(nil, "ack %d", f.Number)
	case Ping:
		return []byte("ping")
	}
	to := url.PathEscape(f.To)
	if f.Query != "" {
		to += "?" + f.Query
	}
	return append(fmt.Appendf(nil, "send %d %s %s ", f.Number, to, f.Type), f.Body...)
}
