package ratelimit

import "encoding/binary"

// Formats of RFC 8446 (TLS records) and RFC 9113 (HTTP/2 frames).
const (
	recordHeaderBytes = 5
	frameHeaderBytes  = 9
	prefaceBytes      = 24 // "PRI * HTTP/2.0…"
	frameData         = 0

	recordApplicationData = 23
)

func measureRecord(header []byte) (length int, counts bool) {
	length = int(binary.BigEndian.Uint16(header[3:]))
	return length, length < smallRecordBytes
}

func measureFrame(header []byte) (length int, counts bool) {
	length = int(header[0])<<16 | int(header[1])<<8 | int(header[2])
	return length, header[3] != frameData || length < smallDataBytes
}

const (
	// smallRecordBytes is the payload below which a TLS record counts. Most requests are
	// larger; a KeyUpdate without padding is 22 bytes.
	smallRecordBytes = 128
	// smallDataBytes is the payload below which a DATA frame counts.
	smallDataBytes = 1 << 10
)
