package public

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"strings"
	"sync"
	"time"
)

const (
	maxPathBytes    = 1024
	maxPathElements = 32
)

// isPublic reports whether a name can be served. fs.ValidPath rejects empty and dot
// elements, so no name leaves the root; os.Root enforces this as well.
func isPublic(name string) bool {
	if name == "." {
		return true
	}
	if len(name) > maxPathBytes || !fs.ValidPath(name) || strings.ContainsAny(name, "\\:\x00") {
		return false
	}
	elements := strings.Split(name, "/")
	for _, element := range elements {
		// Windows ignores a final dot or space, so "x.key." would open "x.key".
		if strings.HasPrefix(element, ".") || strings.HasSuffix(element, ".") || strings.HasSuffix(element, " ") {
			return false
		}
	}
	return len(elements) <= maxPathElements && !hasPrivateExt(elements[len(elements)-1])
}

// hasPrivateExt looks below the suffixes of backups: server.key.bak is a key.
func hasPrivateExt(name string) bool {
	name = strings.ToLower(name)
	if strings.HasSuffix(name, "~") || strings.HasPrefix(name, "#") {
		return true // the backup of an editor
	}
	for backupExts[path.Ext(name)] {
		name = strings.TrimSuffix(name, path.Ext(name))
	}
	return privateExts[path.Ext(name)]
}

var backupExts = map[string]bool{
	".1": true, ".2": true, ".backup": true, ".bak": true, ".copy": true, ".new": true, ".old": true, ".orig": true,
	".save": true, ".swo": true, ".swp": true, ".tmp": true,
}

// privateExts are the extensions of files that are sensitive in a directory published
// by mistake. Certificates are public, but they reveal where to look for their keys.
var privateExts = map[string]bool{
	".env": true, ".go": true, ".cer": true, ".crt": true, ".csr": true, ".der": true,
	".jks": true, ".kdb": true, ".kdbx": true, ".key": true, ".keystore": true, ".p12": true,
	".p7b": true, ".p8": true, ".pem": true, ".pfx": true, ".pk8": true, ".ppk": true,
}

// maxKeyOffset is how much of a file is searched for the start of a private key. The
// text that openssl writes before a key of 8192 bits is shorter.
const maxKeyOffset = 16 << 10

// keyBuffers saves each request an allocation of 16 KiB.
var keyBuffers = sync.Pool{New: func() any { return new([maxKeyOffset]byte) }}

// pemKeyLabel ends the label of all private keys in PEM.
var pemKeyLabel = []byte("PRIVATE KEY")

// keyLines are the starts of lines that introduce a private key in text.
var keyLines = [][]byte{
	[]byte("Bag Attributes"), // written by openssl pkcs12 before its keys
	[]byte("PuTTY-User-Key-File-"),
	[]byte("AGE-SECRET-KEY-"),
}

// containsPrivateKey reports whether a file contains a private key near its start,
// whatever its name: backups of keys often have other extensions.
func containsPrivateKey(file io.ReaderAt) bool {
	buffer := keyBuffers.Get().(*[maxKeyOffset]byte)
	defer keyBuffers.Put(buffer)
	n, err := file.ReadAt(buffer[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return true // unreadable: do not serve it
	}
	start := buffer[:n]
	if isDERKey(start) {
		return true
	}
	return hasKeyLine(asciiText(start))
}

// asciiText removes what an encoding other than ASCII adds: byte order marks, and the
// null bytes of UTF-16.
func asciiText(text []byte) []byte {
	for _, mark := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
		text = bytes.TrimPrefix(text, []byte(mark))
	}
	if len(text) > 1 && (text[0] == 0) != (text[1] == 0) {
		return bytes.ReplaceAll(text, []byte{0}, nil)
	}
	return text
}

// hasKeyLine reports whether a line begins with the header of a private key.
func hasKeyLine(text []byte) bool {
	mentioned := bytes.Contains(text, pemKeyLabel)
	for _, start := range keyLines {
		mentioned = mentioned || bytes.Contains(text, start)
	}
	if !mentioned { // much faster than examining each line
		return false
	}
	for line := range bytes.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		line = bytes.TrimLeft(line, " \t")
		for _, start := range keyLines {
			if bytes.HasPrefix(line, start) {
				return true
			}
		}
		// PEM, PGP and OpenSSH have five dashes, SSH2 has four and a space.
		if bytes.HasPrefix(line, []byte("----")) && bytes.Contains(line, []byte("BEGIN ")) && bytes.Contains(line, pemKeyLabel) {
			return true
		}
	}
	return false
}

// isDERKey reports whether data begins like a private key in DER: a sequence whose first
// element is a version (PKCS #1, #8 and #12, SEC 1). A certificate begins with two
// sequences.
func isDERKey(data []byte) bool {
	if len(data) < 16 || data[0] != 0x30 {
		return false
	}
	header := 2
	if length := data[1]; length >= 0x81 && length <= 0x84 {
		header += int(length & 0x7f)
	}
	version := data[header:]
	return version[0] == 0x02 && version[1] == 0x01 && version[2] <= 3
}

// othersCanRead reports whether permissions let every user of the machine read a file:
// those of the file, and of the directories on the way. What other users must not read
// is not meant for clients either. The directory of the pages itself can be closed.
func othersCanRead(root *os.Root, name string, info fs.FileInfo) bool {
	if !info.IsDir() {
		if info.Mode()&0o004 == 0 {
			return false
		}
		name = path.Dir(name)
	}
	for ; name != "."; name = path.Dir(name) {
		if info, err := root.Stat(name); err != nil || info.Mode()&0o001 == 0 {
			return false
		}
	}
	return true
}

// maxCountedFiles bounds the files that countPrivate examines.
const maxCountedFiles = 10_000

// countPrivate counts files and directories with public names that other users cannot
// read.
func countPrivate(root *os.Root) int {
	private, seen := 0, 0
	fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if seen++; seen > maxCountedFiles {
			return fs.SkipAll
		}
		if err != nil {
			return nil // the server cannot serve it either
		}
		info, err := entry.Info()
		switch {
		case err != nil || name == ".":
			return nil
		case entry.IsDir() && (!isPublic(name) || info.Mode()&0o001 == 0):
			if isPublic(name) {
				private++
			}
			return fs.SkipDir
		case info.Mode().IsRegular() && isPublic(name) && info.Mode()&0o004 == 0:
			private++
		}
		return nil
	})
	return private
}

// withheldInterval is the time between two warnings.
const withheldInterval = time.Hour

// withheldLog warns that files exist but are not served, at most once per interval. It
// is safe for concurrent use.
type withheldLog struct {
	log *slog.Logger

	mu    sync.Mutex
	count int
	next  time.Time
}

// add counts n files or requests, and warns if a warning is due.
func (l *withheldLog) add(n int, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count += n; l.count == 0 || now.Before(l.next) {
		return
	}
	l.log.Warn("files in the pages directory are not served: other users of this machine may not read them, or they contain a private key",
		"count", l.count)
	l.count, l.next = 0, now.Add(withheldInterval)
}
