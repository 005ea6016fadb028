package healthcheck

// Server is a running process of this program.
type Server struct {
	PID int
	// Args are its arguments without the program, and Environ its environment. They can contain
	// secrets.
	Args, Environ []string
}
