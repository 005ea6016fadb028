package config

// Facts describes the machine that the server runs on.
type Facts struct {
	MemoryBytes int64 // available memory; 0: unknown
	OpenFiles   int64 // limit of open files; 0: unknown
	Getenv      func(name string) string
}

// resolver derives the configuration c. It never changes the options.
type resolver struct {
	o     *Options
	facts Facts
	c     *Config
}
