package memstore_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// sign appends a valid trailer to the body of a snapshot.
func sign(body []byte) []byte {
	body = binary.BigEndian.AppendUint64(bytes.Clone(body), uint64(len(body)))
	mac := hmac.New(sha256.New, snapshotKey)
	mac.Write(body)
	return mac.Sum(body)
}

const trailerSize = 8 + sha256.Size

func TestDamagedSnapshotIsRefused(t *testing.T) {
	whole := fourMailboxes(t)
	refused := func(what string, snapshot []byte, key []byte) {
		m, stats, err := memstore.Load(minuteLimits, bytes.NewReader(snapshot), key)
		if err == nil || m != nil || stats != (memstore.SnapshotStats{}) {
			t.Fatalf("%s: got %v, %+v, %v, want only an error", what, m, stats, err)
		}
	}
	for i := range whole {
		refused("cut", whole[:i], snapshotKey)
		changed := bytes.Clone(whole)
		changed[i] ^= 1 << (i % 8)
		refused("changed", changed, snapshotKey)
		if i < len(whole)-trailerSize {
			refused("cut and signed", sign(whole[:i]), snapshotKey)
		}
	}
	refused("with data appended", append(bytes.Clone(whole), 0), snapshotKey)
	refused("of another secret", whole, []byte("another"))
	load(t, minuteLimits, whole)
}

func TestLoadErrors(t *testing.T) {
	whole := fourMailboxes(t)
	body := whole[:len(whole)-trailerSize]
	later := bytes.Clone(body)
	later[11] = 9
	const header = 8 + 4 + 8
	boxes := body[header : len(body)-1]
	quarter := len(boxes) / 4
	again := func(box []byte) []byte { return sign(append(append(bytes.Clone(body[:len(body)-1]), box...), 0)) }
	for _, tt := range []struct {
		name, want string
		snapshot   []byte
	}{
		{"empty", "unexpected EOF", nil},
		{"another file", "not a snapshot", []byte("-----BEGIN CERTIFICATE-----")},
		{"a later version", "version 9", sign(later)},
		{"cut short", "unexpected EOF", whole[:len(whole)/2]},
		{"wrong order of use", "the order of use", again(boxes[:quarter])},
		{"a name twice", "a name occurs twice", again(boxes[3*quarter:])},
		{"another secret", "another secret", append(bytes.Clone(whole[:len(whole)-1]), whole[len(whole)-1]^1)},
	} {
		_, _, err := memstore.Load(minuteLimits, bytes.NewReader(tt.snapshot), snapshotKey)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", tt.name, err, tt.want)
		}
	}
}

// TestLengthAloneTakesNoMemory checks that a length without the bytes allocates
// nothing.
func TestLengthAloneTakesNoMemory(t *testing.T) {
	m := memstore.New(minuteLimits)
	open(t, m, "bob", inbox.Payer{})
	put(t, m, "bob", "")
	snapshot := save(t, m)
	at := len(snapshot) - trailerSize - 1 - 4 // the length of the body, before the trailer
	binary.BigEndian.PutUint32(snapshot[at:], 1<<31-2)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err := memstore.Load(minuteLimits, bytes.NewReader(snapshot[:at+4]), snapshotKey)
	runtime.ReadMemStats(&after)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want ErrUnexpectedEOF", err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("allocated %d bytes", took)
	}
}

// fullDisk is a disk with little free space.
type fullDisk struct{ free int }

func (f *fullDisk) Write(p []byte) (int, error) {
	n := min(len(p), f.free)
	if f.free -= n; n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

func TestSaveReturnsWriteErrors(t *testing.T) {
	m := memstore.New(minuteLimits)
	open(t, m, "bob", inbox.Payer{})
	put(t, m, "bob", strings.Repeat("x", 100<<10))
	size := len(save(t, m))
	for _, room := range []int{0, 10, 64 << 10, size - 33, size - 32, size - 1} {
		if _, err := m.Save(&fullDisk{room}, snapshotKey); err == nil {
			t.Errorf("%d of %d bytes free: got no error", room, size)
		}
	}
	if _, err := m.Save(&fullDisk{size}, snapshotKey); err != nil {
		t.Errorf("enough free space: %v", err)
	}
}

func TestSaveRefusesLongTexts(t *testing.T) {
	m := memstore.New(minuteLimits)
	open(t, m, strings.Repeat("x", 1<<16), inbox.Payer{})
	if _, err := m.Save(io.Discard, snapshotKey); err == nil {
		t.Error("got no error for a name of 64 KiB")
	}
}

// FuzzLoad loads arbitrary bytes as they are, and as the body of a signed snapshot. What
// is loaded keeps the limits, and is the same after it was saved again.
func FuzzLoad(f *testing.F) {
	whole := fourMailboxes(f)
	f.Add(whole)
	f.Add(whole[:len(whole)-trailerSize])
	f.Add([]byte("inboxes\n\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	limits := inbox.Limits{Timeout: time.Minute, Capacity: 2, MaxInboxes: 3, MaxInboxesPerPayer: 3, MaxQueuedBytes: 4000}
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, _, err := memstore.Load(limits, bytes.NewReader(data), []byte("another")); err == nil {
			t.Error("a snapshot of another key was loaded")
		}
		m, stats, err := memstore.Load(limits, bytes.NewReader(sign(data)), snapshotKey)
		if err != nil {
			return
		}
		held := m.Stats()
		if held.Inboxes != stats.Inboxes || held.Inboxes > 3 || stats.Messages > 2*held.Inboxes || held.QueuedBytes > 4000 {
			t.Errorf("got %+v and %+v, beyond the limits", stats, held)
		}
		again, same := load(t, limits, save(t, m))
		if again.Stats() != held || same != (memstore.SnapshotStats{Inboxes: stats.Inboxes, Messages: stats.Messages}) {
			t.Errorf("saved and loaded %+v with %+v, got %+v with %+v", stats, held, same, again.Stats())
		}
	})
}

// BenchmarkSnapshot saves and loads a hundred thousand mailboxes with 256 MiB
// of messages among them.
func BenchmarkSnapshot(b *testing.B) {
	m := memstore.New(minuteLimits)
	claimNames(b, m, 100_000)
	body := make([]byte, 64<<10)
	for i := range 4096 {
		if _, err := m.Put(b.Context(), name16(i), inbox.Message{From: "sender", Body: body}, 0); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		began := time.Now()
		snapshot := save(b, m)
		saved := time.Now()
		load(b, minuteLimits, snapshot)
		b.ReportMetric(float64(saved.Sub(began).Milliseconds()), "save-ms")
		b.ReportMetric(float64(time.Since(saved).Milliseconds()), "load-ms")
		b.SetBytes(int64(len(snapshot)))
	}
}
