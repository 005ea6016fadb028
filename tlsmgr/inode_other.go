//go:build !unix

package tlsmgr

import "io/fs"

// inode is unknown here; time and size must do.
func inode(fs.FileInfo) uint64 { return 0 }
