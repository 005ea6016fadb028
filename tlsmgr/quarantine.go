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

	"inbox/internal/atomicfile"
)

// staleLockAge is older than any lock that certmagic holds: it renews each every
// five seconds. A younger file may just be being written.
const staleLockAge = 10 * time.Second

// fileQuarantine sets aside files that a loss of power left behind half written.
// certmagic stops at each of them for good. Without a directory there is
// nothing to mend.
type fileQuarantine struct {
	dir string
	log *slog.Logger
}

func quarantineOf(store storage) fileQuarantine {
	d, _ := store.(dirStorage)
	return fileQuarantine(d)
}

// checkCertmagicFiles mends what certmagic reads before it orders for a name: its locks,
// the accounts, and the notes beside the certificate.
func (q fileQuarantine) checkCertmagicFiles(name string) {
	q.checkGlob("locks/*.lock", func(path string, text []byte) bool {
		info, err := os.Stat(path)
		recent := err != nil || time.Since(info.ModTime()) < staleLockAge
		return recent || json.Valid(text)
	})
	q.checkGlob("acme/*/users/*/*.json", func(_ string, text []byte) bool { return json.Valid(text) })
	q.checkGlob("acme/*/users/*/*.key", isPEM)
	q.checkGlob(filepath.Join("certificates/*", name, "*.json"), func(_ string, text []byte) bool { return json.Valid(text) })
}

func isPEM(_ string, text []byte) bool {
	block, _ := pem.Decode(bytes.TrimSpace(text))
	return block != nil
}

// checkGlob sets aside the files of a pattern that are not well.
func (q fileQuarantine) checkGlob(pattern string, valid func(path string, text []byte) bool) {
	if q.dir == "" {
		return
	}
	paths, err := filepath.Glob(filepath.Join(q.dir, pattern))
	if err != nil {
		q.log.Debug("look for damaged files", "err", err)
		return
	}
	for _, path := range paths {
		text, err := atomicfile.Read(path, maxFileBytes)
		if err == nil && !valid(path, text) {
			q.add(path)
		}
	}
}

// add renames what is damaged, so that a person can still look at it.
func (q fileQuarantine) add(path string) {
	to := fmt.Sprintf("%s.damaged-%d", path, time.Now().Unix())
	if err := os.Rename(path, to); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			q.log.Error("a damaged file cannot be set aside; remove it", "file", path, "err", err)
		}
		return
	}
	q.log.Warn("a damaged file was set aside, probably left by a loss of power", "file", path, "as", filepath.Base(to))
}
