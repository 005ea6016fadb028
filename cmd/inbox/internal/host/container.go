// Package host has small facts of the machine: the limit of open files, whether this is a
// container, how listen addresses are reached, and what the environment contains. It also wraps
// text for a terminal.
package host

import "os"

// InContainer reports whether the process runs under Podman, which sets
// $container, or Docker, which creates a file. Other runtimes are not detected.
func InContainer(getenv func(string) string) bool {
	return getenv("container") != "" || anyExists("/.dockerenv")
}

func anyExists(files ...string) bool {
	for _, f := range files {
		if _, err := os.Stat(f); err == nil {
			return true
		}
	}
	return false
}
