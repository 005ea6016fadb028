//go:build !unix

package tlsmgr

// chownLikeDir has nothing to do: files made in a directory have its permissions.
func chownLikeDir(string, string) {}
