package tlsmgr

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// lockAge is older than any lock that certmagic holds: it renews each every
// five seconds. A younger file may just be being written.
const lockAge = 10 * time.Second

// mender sets aside files that a loss of power left behind half written.
// certmagic stops at each of them for good. Without a directory there is
// nothing to mend.
type mender struct {
	dir string
	log *slog.Logger
}

func menderOf(p place) mender {
	d, _ := p.(disk)
	return mender(d)
}

// library mends what certmagic reads before it orders for a name: its locks,
// the accounts, and the notes beside the certificate.
func (m mender) library(name string) {
	m.each("locks/*.lock", func(path string, text []byte) bool {
		info, err := os.Stat(path)
		young := err != nil || time.Since(info.ModTime()) < lockAge
		return young || json.Valid(text)
	})
	m.each("acme/*/users/*/*.json", func(_ string, text []byte) bool { return json.Valid(text) })
	m.each("acme/*/users/*/*.key", isPEM)
	m.each(filepath.Join("certificates/*", name, "*.json"), func(_ string, text []byte) bool { return json.Valid(text) })
}

func isPEM(_ string, text []byte) bool {
	block, _ := pem.Decode(bytes.TrimSpace(text))
	return block != nil
}

// each sets aside the files of a pattern that are not well.
func (m mender) each(pattern string, well func(path string, text []byte) bool) {
	if m.dir == "" {
		return
	}
	paths, err := filepath.Glob(filepath.Join(m.dir, pattern))
	if err != nil {
		m.log.Debug("look for damaged files", "err", err)
		return
	}
	for _, path := range paths {
		text, err := readFile(path)
		if err == nil && !well(path, text) {
			m.aside(path)
		}
	}
}

// aside renames what is damaged, so that a person can still look at it.
func (m mender) aside(path string) {
	to := fmt.Sprintf("%s.damaged-%d", path, time.Now().Unix())
	if err := os.Rename(path, to); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			m.log.Error("a damaged file cannot be set aside; remove it", "file", path, "err", err)
		}
		return
	}
	m.log.Warn("a damaged file was set aside, probably left by a loss of power", "file", path, "as", filepath.Base(to))
}
