//go:build !unix

package setup

import "io/fs"

// ownerOf returns "": files have no owner.
func ownerOf(fs.FileInfo) string { return "" }
