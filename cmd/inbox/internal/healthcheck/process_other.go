//go:build !linux

package healthcheck

import "errors"

// Servers returns nothing: only Linux shows the arguments of processes as files.
func Servers(func(args []string) bool) []Server { return nil }

// Dir fails: only Linux shows the directories of processes.
func (Server) Dir() (string, error) { return "", errors.ErrUnsupported }
