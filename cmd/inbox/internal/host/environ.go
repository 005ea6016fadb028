package host

import "strings"

// Getenv returns the value of a variable in an environment like [os.Environ], or "". The
// last of several values counts, as in a shell.
func Getenv(environ []string, name string) (value string) {
	for _, entry := range environ {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			value = v
		}
	}
	return value
}
