package ratelimit

import (
	"bytes"
	"encoding/binary"
	"testing"

	"inbox/internal/splitter"
)

func record(payload int) []byte {
	b := make([]byte, recordHeaderBytes+payload)
	b[0], b[1], b[2] = 23, 3, 3
	binary.BigEndian.PutUint16(b[3:], uint16(payload))
	return b
}

func frame(kind byte, payload int) []byte {
	b := make([]byte, frameHeaderBytes+payload)
	b[0], b[1], b[2], b[3] = byte(payload>>16), byte(payload>>8), byte(payload), kind
	return b
}

func repeat(n int, unit []byte) []byte { return bytes.Repeat(unit, n) }

// The count must not depend on how the stream is cut.
func TestSplitterCountsUnits(t *testing.T) {
	const ping = 6
	preface := make([]byte, prefaceBytes)
	records := splitter.Splitter{HeaderBytes: recordHeaderBytes, Measure: measureRecord}
	frames := splitter.Splitter{HeaderBytes: frameHeaderBytes, Measure: measureFrame, Skip: prefaceBytes}
	for _, row := range []struct {
		name   string
		stream []byte
		in     splitter.Splitter
		want   int
	}{
		{"key updates", repeat(7, record(22)), records, 7},
		{"records of one byte", repeat(5, record(18)), records, 5},
		{"empty records", repeat(5, record(0)), records, 5},
		{"requests", repeat(9, record(400)), records, 0},
		{"both", append(repeat(3, record(16<<10)), record(30)...), records, 1},
		{"PINGs", append(preface, repeat(11, frame(ping, 8))...), frames, 11},
		{"empty SETTINGS", append(preface, repeat(3, frame(4, 0))...), frames, 3},
		{"a body", append(preface, repeat(4, frame(frameData, 16<<10))...), frames, 0},
		{"a body byte by byte", append(preface, repeat(4, frame(frameData, 1))...), frames, 4},
		{"a frame of 16 MiB", append(preface, 255, 255, 255, 1, 0, 0, 0, 0, 0), frames, 1},
	} {
		for _, step := range []int{1, 3, 8, 9, 100, 1 << 20} {
			in, got := row.in, 0
			for rest := row.stream; len(rest) > 0; rest = rest[min(step, len(rest)):] {
				got += in.Count(rest[:min(step, len(rest))])
			}
			if got != row.want {
				t.Errorf("%s in chunks of %d: got %d units, want %d", row.name, step, got, row.want)
			}
		}
	}
}

// FuzzSplitter cuts a stream in different ways, which must not change the count.
func FuzzSplitter(f *testing.F) {
	f.Add(repeat(3, record(22)), 7)
	f.Add(append(make([]byte, prefaceBytes), repeat(3, frame(6, 8))...), 9)
	f.Fuzz(func(t *testing.T, stream []byte, step int) {
		step = 1 + int(uint(step)%100)
		for _, in := range []splitter.Splitter{{HeaderBytes: recordHeaderBytes, Measure: measureRecord}, {HeaderBytes: frameHeaderBytes, Measure: measureFrame, Skip: prefaceBytes}} {
			whole, cut, got := in, in, 0
			want := whole.Count(stream)
			for rest := stream; len(rest) > 0; rest = rest[min(step, len(rest)):] {
				got += cut.Count(rest[:min(step, len(rest))])
			}
			if got != want || got > len(stream)/in.HeaderBytes {
				t.Errorf("got %d units in chunks of %d, %d at once, of %d bytes", got, step, want, len(stream))
			}
		}
	})
}
