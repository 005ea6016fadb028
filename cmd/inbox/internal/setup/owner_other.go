//go:build !unix

package setup

import "io/fs"

// chown does nothing: files have no owner that an environment file needs.
func chown(string, fs.FileInfo) error { return nil }
