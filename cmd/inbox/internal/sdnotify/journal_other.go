//go:build !linux

package sdnotify

import "os"

func isJournal(*os.File, string) bool { return false }
