package memstore

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"time"

	"inbox/inbox"
	"inbox/inbox/quota"
)

// The format of a snapshot, with numbers in big endian:
//
//	magic, version (4 bytes), the highest ID that was given (8)
//	for each mailbox: 1, name, key, epoch (8), last ID (8), last receiver (8), idle time in ns (8), payer,
//	  number of messages (4)
//	  for each of its messages: ID (8), sender, content type, payer, length (4), body
//	0, length of all before this (8), HMAC-SHA256 of all before this (32)
//
// A text is its length (2) and its bytes, a payer its client and its network as texts.
const (
	snapshotMagic   = "inboxes\n"
	snapshotVersion = 2

	endTag, boxTag = 0, 1
	// maxID keeps IDs, which begin as microseconds since 1970, from overflowing.
	maxID = math.MaxInt64
	// maxSavedBodyBytes fits an int of 32 bits.
	maxSavedBodyBytes = math.MaxInt32 - 1
	// firstReadBytes is how much of a body is allocated before any of it was read.
	firstReadBytes = 16 << 10
)

// encoder writes a snapshot. It keeps the first error until end returns it.
type encoder struct {
	w   io.Writer
	buf *bufio.Writer // to w and mac
	mac hash.Hash
	n   uint64
	err error
}

func newEncoder(w io.Writer, key []byte) *encoder {
	mac := hmac.New(sha256.New, key)
	return &encoder{w: w, buf: bufio.NewWriterSize(io.MultiWriter(w, mac), 64<<10), mac: mac}
}

func (e *encoder) header(lastID uint64) {
	e.write([]byte(snapshotMagic))
	e.uint32(snapshotVersion)
	e.uint64(lastID)
}

// snapshotOverheadBytes is the size of a snapshot without mailboxes.
const snapshotOverheadBytes = len(snapshotMagic) + 4 + 8 + 1 + 8 + sha256.Size

// savedClaimBytes returns the size of a mailbox in a snapshot, without its messages.
func savedClaimBytes(b *box) int64 {
	return 1 + textBytes(b.name) + int64(len(b.key)) + 4*8 + payerBytes(b.payer) + 4
}

// savedMessageBytes returns the size of the messages of a mailbox in a snapshot.
func savedMessageBytes(b *box) (sum int64) {
	for n := b.first; n != nil; n = n.next {
		sum += 8 + textBytes(n.From) + textBytes(n.ContentType) + payerBytes(n.payer) + 4 + int64(len(n.Body))
	}
	return sum
}

func textBytes(s string) int64 { return 2 + int64(len(s)) }

func payerBytes(a *quota.Account) int64 {
	if a == nil {
		return 2 * textBytes("")
	}
	return textBytes(a.Payer.Client) + textBytes(a.Payer.Network)
}

func (e *encoder) box(b *box, idle time.Duration, withMessages bool) {
	e.write([]byte{boxTag})
	e.text(b.name)
	e.write(b.key[:])
	e.uint64(b.epoch)
	e.uint64(b.lastID)
	e.uint64(b.receiver)
	e.uint64(uint64(idle))
	e.payer(b.payer)
	if !withMessages {
		e.uint32(0)
		return
	}
	e.uint32(uint32(b.count))
	for n := b.first; n != nil; n = n.next {
		e.message(n)
	}
}

func (e *encoder) message(n *node) {
	e.uint64(n.ID)
	e.text(n.From)
	e.text(n.ContentType)
	e.payer(n.payer)
	e.uint32(e.length(len(n.Body), maxSavedBodyBytes))
	e.write(n.Body)
}

func (e *encoder) payer(a *quota.Account) {
	var p inbox.Payer
	if a != nil {
		p = a.Payer
	}
	e.text(p.Client)
	e.text(p.Network)
}

func (e *encoder) end() error {
	e.write([]byte{endTag})
	e.uint64(e.n)
	if err := errors.Join(e.err, e.buf.Flush()); err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	if _, err := e.w.Write(e.mac.Sum(nil)); err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	return nil
}

func (e *encoder) text(s string) {
	e.write(binary.BigEndian.AppendUint16(e.buf.AvailableBuffer(), uint16(e.length(len(s), math.MaxUint16))))
	n, _ := e.buf.WriteString(s) // Flush returns the error again
	e.n += uint64(n)
}

func (e *encoder) uint32(v uint32) {
	e.write(binary.BigEndian.AppendUint32(e.buf.AvailableBuffer(), v))
}
func (e *encoder) uint64(v uint64) {
	e.write(binary.BigEndian.AppendUint64(e.buf.AvailableBuffer(), v))
}

func (e *encoder) write(p []byte) {
	n, _ := e.buf.Write(p) // Flush returns the error again
	e.n += uint64(n)
}

// length returns n, and sets an error if it is above the limit of the format.
func (e *encoder) length(n, limit int) uint32 {
	if n > limit {
		e.err = errors.New("a text is too long")
	}
	return uint32(n)
}

// decoder reads a snapshot. After an error it returns zeros. It allocates only
// for bytes that have arrived.
type decoder struct {
	r       *bufio.Reader
	mac     hash.Hash
	n       uint64
	err     error
	scratch [sha256.Size]byte
}

func newDecoder(r io.Reader, key []byte) *decoder {
	return &decoder{r: bufio.NewReaderSize(r, 64<<10), mac: hmac.New(sha256.New, key)}
}

func (d *decoder) header() (lastID uint64) {
	if magic := d.bytes(len(snapshotMagic)); d.err == nil && string(magic) != snapshotMagic {
		d.err = errors.New("not a snapshot")
	}
	if version := d.uint32(); d.err == nil && version != snapshotVersion {
		d.err = fmt.Errorf("version %d is not supported, want version %d", version, snapshotVersion)
	}
	return d.id()
}

// more reports whether another mailbox follows.
func (d *decoder) more() bool {
	d.fill(d.scratch[:1])
	if tag := d.scratch[0]; d.err == nil && tag > boxTag {
		d.err = fmt.Errorf("unknown part %d", tag)
	}
	return d.err == nil && d.scratch[0] == boxTag
}

// savedBox is a mailbox of a snapshot, without its messages.
type savedBox struct {
	*box
	payer        inbox.Payer
	idle         time.Duration // since its last use
	messageCount uint32        // messages that follow
}

func (d *decoder) box() savedBox {
	b := &box{name: d.text()}
	d.fill(b.key[:])
	b.epoch, b.lastID, b.receiver = d.id(), d.id(), d.uint64()
	s := savedBox{box: b, idle: time.Duration(d.uint64()), payer: d.payer(), messageCount: d.uint32()}
	if d.err == nil && (b.epoch == 0 || b.lastID < b.epoch-1 || s.idle < 0) {
		d.err = errors.New("invalid mailbox")
	}
	return s
}

func (d *decoder) message() inbox.Message {
	return inbox.Message{
		ID: d.id(), From: d.text(), ContentType: d.text(), Payer: d.payer(), Body: d.bytes(d.bodyLength()),
	}
}

func (d *decoder) payer() inbox.Payer { return inbox.Payer{Client: d.text(), Network: d.text()} }

// end reads what follows the mailboxes.
func (d *decoder) end() error {
	length := d.n
	if got := d.uint64(); d.err == nil && got != length {
		d.err = errors.New("the length does not match")
	}
	want := d.mac.Sum(nil)
	d.fill(d.scratch[:])
	if d.err == nil && !hmac.Equal(d.scratch[:], want) {
		d.err = errors.New("damaged, or saved under another secret")
	}
	if _, err := d.r.ReadByte(); d.err == nil && err != io.EOF {
		d.err = errors.New("data after the end")
	}
	return d.err
}

func (d *decoder) text() string {
	d.fill(d.scratch[:2])
	return string(d.bytes(int(binary.BigEndian.Uint16(d.scratch[:2]))))
}

func (d *decoder) id() uint64 {
	id := d.uint64()
	if id > maxID && d.err == nil {
		d.err = errors.New("invalid ID")
	}
	return id
}

func (d *decoder) bodyLength() int {
	n := d.uint32()
	if n > maxSavedBodyBytes && d.err == nil {
		d.err = errors.New("invalid message length")
	}
	return int(min(n, maxSavedBodyBytes))
}

func (d *decoder) uint32() uint32 {
	d.fill(d.scratch[:4])
	return binary.BigEndian.Uint32(d.scratch[:4])
}

func (d *decoder) uint64() uint64 {
	d.fill(d.scratch[:8])
	return binary.BigEndian.Uint64(d.scratch[:8])
}

// bytes reads n bytes. It allocates as they arrive, so that a length without
// the bytes takes no memory.
func (d *decoder) bytes(n int) []byte {
	p := make([]byte, min(n, firstReadBytes))
	d.fill(p)
	for len(p) < n && d.err == nil {
		grown := make([]byte, min(2*len(p), n))
		d.fill(grown[copy(grown, p):])
		p = grown
	}
	if d.err != nil {
		return nil
	}
	return p
}

func (d *decoder) fill(p []byte) {
	if d.err != nil {
		clear(p)
		return
	}
	n, err := io.ReadFull(d.r, p)
	if d.count(p[:n], err); err != nil {
		clear(p)
	}
}

// count adds what was read to the length and the HMAC.
func (d *decoder) count(p []byte, err error) {
	d.mac.Write(p)
	d.n += uint64(len(p))
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	d.err = err
}
