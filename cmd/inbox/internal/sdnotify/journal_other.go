//go:build !linux

package sdnotify

func isJournal(file, string) bool { return false }
