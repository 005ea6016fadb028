package quota

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"
)

// The format of a ledger, with numbers in big endian:
//
//	magic, version (1 byte), begin of the month in seconds since 1970 (8), bytes used (8), number of entries (4)
//	for each entry: hash (12), bytes used (8)
//	CRC-32 of all before this (4)
const (
	ledgerMagic   = "turn-month\n"
	ledgerVersion = 1

	ledgerHeaderBytes = len(ledgerMagic) + 1 + 8 + 8 + 4
	ledgerEntryBytes  = len(Hash{}) + 8
	ledgerSumBytes    = crc32.Size
	// MaxLedgerBytes bounds a ledger.
	MaxLedgerBytes = ledgerHeaderBytes + maxAccounts*ledgerEntryBytes + ledgerSumBytes
)

var errLedger = errors.New("invalid ledger of the month's traffic")

// ledger is the use of one month.
type ledger struct {
	begin   time.Time // of the month, UTC
	used    int64
	entries []entry // with use, at most maxAccounts
}

type entry struct {
	hash Hash
	used int64
}

// ledger returns the use of the current month.
func (m *month) ledger() ledger {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := ledger{time.Unix(m.begin.Load(), 0).UTC(), max(0, m.used.Load()), m.largestLocked()}
	for i := range l.entries { // a charge can be between the total and the entry
		l.entries[i].used = min(l.entries[i].used, l.used)
	}
	l.entries = slices.DeleteFunc(l.entries, func(e entry) bool { return e.used <= 0 })
	return l
}

func (l ledger) encode() []byte {
	b := make([]byte, 0, ledgerHeaderBytes+len(l.entries)*ledgerEntryBytes+ledgerSumBytes)
	b = append(b, ledgerMagic...)
	b = append(b, ledgerVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(l.begin.Unix()))
	b = binary.BigEndian.AppendUint64(b, uint64(l.used))
	b = binary.BigEndian.AppendUint32(b, uint32(len(l.entries)))
	for _, e := range l.entries {
		b = append(b, e.hash[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(e.used))
	}
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// decodeLedger returns the ledger that encode encoded. An empty input is an empty ledger.
func decodeLedger(b []byte) (ledger, error) {
	if len(b) == 0 {
		return ledger{}, nil
	}
	if len(b) < ledgerHeaderBytes+ledgerSumBytes || len(b) > MaxLedgerBytes || string(b[:len(ledgerMagic)]) != ledgerMagic {
		return ledger{}, errLedger
	}
	if version := b[len(ledgerMagic)]; version != ledgerVersion {
		return ledger{}, fmt.Errorf("%w: version %d, want %d", errLedger, version, ledgerVersion)
	}
	content, sum := b[:len(b)-ledgerSumBytes], binary.BigEndian.Uint32(b[len(b)-ledgerSumBytes:])
	if crc32.ChecksumIEEE(content) != sum {
		return ledger{}, fmt.Errorf("%w: checksum mismatch", errLedger)
	}
	return decodeContent(content)
}

func decodeContent(b []byte) (ledger, error) {
	b = b[len(ledgerMagic)+1:]
	begin, used := int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))
	count := binary.BigEndian.Uint32(b[16:])
	b = b[20:]
	l := ledger{begin: time.Unix(begin, 0).UTC(), used: used}
	switch {
	case begin < 0 || l.begin.Year() > 9999 || !l.begin.Equal(firstOfMonth(l.begin)):
		return ledger{}, fmt.Errorf("%w: no month begins then", errLedger)
	case used < 0 || int64(len(b)) != int64(count)*int64(ledgerEntryBytes):
		return ledger{}, errLedger
	}
	seen := make(map[Hash]bool, count)
	for ; len(b) > 0; b = b[ledgerEntryBytes:] {
		e := entry{Hash(b), int64(binary.BigEndian.Uint64(b[len(Hash{}):]))}
		if e.used <= 0 || e.used > used || e.hash == (Hash{}) || seen[e.hash] {
			return ledger{}, fmt.Errorf("%w: invalid entry", errLedger)
		}
		seen[e.hash] = true
		l.entries = append(l.entries, e)
	}
	return l, nil
}
