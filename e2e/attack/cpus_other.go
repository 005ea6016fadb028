//go:build !linux

package attack

// cpus are CPUs of the machine; nil are all of them, as always on this system.
type cpus = *struct{}

var allCPUs, serverCPUs, flooderCPUs cpus

func startOn(_ cpus, start func() error) error { return start() }

func confine(cpus) error { return nil }
