package host

// AllowsColour reports whether the environment allows colours on a terminal: NO_COLOR is not set
// (no-color.org), and the terminal is not dumb.
func AllowsColour(getenv func(name string) string) bool {
	return getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}
