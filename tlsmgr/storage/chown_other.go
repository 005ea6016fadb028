//go:build !unix

package storage

// chownLikeDir has nothing to do: new files have the permissions of their directory.
func chownLikeDir(string, string) {}
