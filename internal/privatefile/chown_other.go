//go:build !unix

package privatefile

import "io/fs"

// Chown does nothing: files have no owner that this program changes.
func Chown(string, fs.FileInfo) error { return nil }
