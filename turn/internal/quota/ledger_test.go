package quota

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"reflect"
	"testing"
	"time"
)

func TestLedgerContinues(t *testing.T) {
	q, c := newTestQuota(t, 0, gigabyte)
	for i := range 20 {
		f := openClient(t, q, i)
		sendFor(c, time.Duration(i)*50*time.Millisecond, 1000, f)
		f.Close()
	}
	want := q.State()
	again, err := New(Config{MonthBytes: gigabyte, Now: c.Now}, q.Ledger())
	if err != nil {
		t.Fatal(err)
	}
	if got := again.State(); got.MonthBytes != want.MonthBytes || got.Payers != 19 {
		t.Errorf("got %+v, want the use of %+v", got, want)
	}
	if !bytes.Equal(again.Ledger(), q.Ledger()) {
		t.Error("the ledger changed")
	}
	if got, want := fill(c, openClient(t, again, 19), 1000), fill(c, openClient(t, q, 19), 1000); got != want {
		t.Errorf("a payer got %d bytes after a restart, want %d", got, want)
	}
	c.set(time.Date(2026, 4, 2, 0, 0, 0, 0, time.UTC))
	next, err := New(Config{MonthBytes: gigabyte, Now: c.Now}, again.Ledger())
	c.advance(laterWait)
	if err != nil || next.State().MonthBytes != 0 {
		t.Errorf("in the next month: %+v, %v", next.State(), err)
	}
	c.set(time.Date(2026, 2, 2, 0, 0, 0, 0, time.UTC))
	back, err := New(Config{MonthBytes: gigabyte, Now: c.Now}, q.month.ledger().encode())
	if err != nil || back.State().MonthBytes == 0 {
		t.Errorf("clock set back: %+v, %v", back.State(), err)
	}
}

func TestLedgerDropsTheSmallest(t *testing.T) {
	q, _ := newTestQuota(t, 0, 1000*gigabyte)
	const payers = maxAccounts + 3000
	for i := range payers {
		f := openClient(t, q, i)
		n := 100
		if i%4 == 0 {
			n = 1000
		}
		if !f.Allow(n) {
			t.Fatalf("packet %d dropped", i)
		}
		f.Close()
		if got := q.State().Payers; got > maxAccounts {
			t.Fatalf("%d accounts", got)
		}
	}
	for i := 0; i < payers; i += 4 {
		if q.month.accounts[hashOf(i)] == nil {
			t.Fatalf("a payer that used more than others was dropped: %d", i)
		}
	}
	b := q.Ledger()
	if len(b) > MaxLedgerBytes {
		t.Errorf("%d bytes", len(b))
	}
	if _, err := decodeLedger(b); err != nil {
		t.Error(err)
	}
}

// TestLedgerHasTheLargest opens more flows than the ledger has entries.
func TestLedgerHasTheLargest(t *testing.T) {
	q, _ := newTestQuota(t, 0, 1000*gigabyte)
	for i := range maxAccounts + 100 {
		openClient(t, q, i).Allow(10 + i)
	}
	l, err := decodeLedger(q.Ledger())
	if err != nil || len(l.entries) != maxAccounts || l.entries[maxAccounts-1].used != 110+HeaderBytes {
		t.Errorf("got %d entries, %v", len(l.entries), err)
	}
}

// seal appends the checksum.
func seal(b []byte) []byte { return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b)) }

func sampleLedger() ledger {
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	return ledger{begin: begin, used: 5000, entries: []entry{{hashOf(1), 3000}, {hashOf(2), 5}}}
}

func TestInvalidLedger(t *testing.T) {
	valid := sampleLedger().encode()
	changed := func(change func(*ledger)) []byte {
		l := sampleLedger()
		change(&l)
		return l.encode()
	}
	rows := map[string][]byte{
		"short":           valid[:10],
		"cut":             valid[:len(valid)-1],
		"longer":          append(bytes.Clone(valid), 0),
		"too long":        make([]byte, MaxLedgerBytes+1),
		"another version": seal(append([]byte(ledgerMagic+"\x02"), valid[len(ledgerMagic)+1:len(valid)-4]...)),
		"no month":        changed(func(l *ledger) { l.begin = l.begin.Add(time.Hour) }),
		"before 1970":     changed(func(l *ledger) { l.begin = time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC) }),
		"far future":      changed(func(l *ledger) { l.begin = time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC) }),
		"negative":        changed(func(l *ledger) { l.used = -1; l.entries = nil }),
		"zero entry":      changed(func(l *ledger) { l.entries[1].used = 0 }),
		"negative entry":  changed(func(l *ledger) { l.entries[1].used = -5 }),
		"entry of more":   changed(func(l *ledger) { l.entries[1].used = 5001 }),
		"no hash":         changed(func(l *ledger) { l.entries[1].hash = Hash{} }),
		"twice":           changed(func(l *ledger) { l.entries[1].hash = l.entries[0].hash }),
		"missing entry":   seal(valid[:len(valid)-ledgerSumBytes-ledgerEntryBytes]),
	}
	for i := range valid {
		b := bytes.Clone(valid)
		b[i] ^= 0x10
		rows["bit "+string(rune('0'+i))] = b
	}
	for name, b := range rows {
		c := newClock()
		q, err := New(Config{MonthBytes: gigabyte, Now: c.Now}, b)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if got := q.State(); got.MonthBytes != 0 || got.Payers != 0 {
			t.Errorf("%s: got %+v, want an empty ledger", name, got)
		}
		openClient(t, q, 1)
	}
}

func FuzzLedger(f *testing.F) {
	f.Add([]byte{})
	f.Add(sampleLedger().encode())
	f.Add(seal([]byte(ledgerMagic)))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, seal(bytes.Clone(b))} {
			l, err := decodeLedger(b)
			if err != nil || len(b) == 0 {
				continue
			}
			if got, err := decodeLedger(l.encode()); err != nil || !reflect.DeepEqual(got, l) {
				t.Fatalf("got %+v, %v, want %+v", got, err, l)
			}
			q, err := New(Config{MonthBytes: 1000}, b)
			if err != nil {
				t.Fatal(err)
			}
			q.Ledger()
		}
	})
}
