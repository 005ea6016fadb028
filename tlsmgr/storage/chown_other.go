//go:build !unix

package storage

// chownLikeDir does nothing: new files inherit the permissions of their directory.
func chownLikeDir(string, string) {}
