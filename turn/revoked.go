package turn

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

// The format of saved revocations, with numbers in big endian:
//
//	magic, version (1 byte)
//	for each revocation: owner (12; all zero for all owners), time in microseconds since 1970 (8)
//	CRC-32 of all before this (4)
const (
	revokedMagic      = "turn-revoked\n"
	revokedVersion    = 2
	revokedEntryBytes = len(ownerHash{}) + 1 + 8

	// MaxRevocationsBytes bounds what [Server.Revocations] returns.
	MaxRevocationsBytes = len(revokedMagic) + 1 + (maxRevocations+1)*revokedEntryBytes + crc32.Size
)

// allOwners is no hash of an owner.
var allOwners ownerHash

var errSavedRevocations = errors.New("invalid revocations of credentials")

// Revocations returns the owners whose credentials were revoked before these expired, for
// [Config.Revocations] after a restart: the credentials are valid after it, too. It has the keyed
// hashes of at most 10,000 owners, and a time until which all are revoked.
func (s *Server) Revocations() []byte { return s.revoked.encode(s.config.Now()) }

func (r *revocations) encode(now time.Time) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := append([]byte(revokedMagic), revokedVersion)
	if all := (revocation{owner: allOwners, at: r.all, denied: true}); !r.all.IsZero() && !all.expired(now) {
		b = all.append(b)
	}
	for _, entry := range r.queue {
		if !entry.expired(now) && r.at[entry.owner].Equal(entry.at) {
			b = entry.append(b)
		}
	}
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func (r revocation) append(b []byte) []byte {
	b = append(b, r.owner[:]...)
	if r.denied {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return binary.BigEndian.AppendUint64(b, uint64(r.at.UnixMicro()))
}

// decode adds what encode returned. An empty input has none.
func (r *revocations) decode(b []byte, now time.Time) error {
	if len(b) == 0 {
		return nil
	}
	content := len(b) - crc32.Size
	entries := content - len(revokedMagic) - 1
	if entries < 0 || len(b) > MaxRevocationsBytes || entries%revokedEntryBytes != 0 ||
		string(b[:len(revokedMagic)+1]) != revokedMagic+string(rune(revokedVersion)) ||
		crc32.ChecksumIEEE(b[:content]) != binary.BigEndian.Uint32(b[content:]) {
		return errSavedRevocations
	}
	for b = b[len(revokedMagic)+1 : content]; len(b) > 0; b = b[revokedEntryBytes:] {
		entry := revocation{owner: ownerHash(b), denied: b[len(ownerHash{})] != 0}
		entry.at = time.UnixMicro(int64(binary.BigEndian.Uint64(b[len(ownerHash{})+1:])))
		if entry.owner == allOwners {
			r.addAll(entry.at)
		} else {
			r.insert(entry, now)
		}
	}
	return nil
}
