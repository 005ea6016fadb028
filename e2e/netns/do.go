package netns

import (
	"fmt"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Do calls f on a thread in the namespace of a host. Sockets that f itself creates belong to
// the host, also after Do has returned; those of goroutines that f starts do not.
func (n Network) Do(host string, f func() error) error {
	runtime.LockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the namespace of this thread: %w", err)
	}
	defer unix.Close(own)
	if err := enter(filepath.Join(namespaceDir, n.namespace(host))); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err = f()
	if back := unix.Setns(own, unix.CLONE_NEWNET); back != nil {
		return fmt.Errorf("leave the namespace of %s: %w", host, back) // the thread ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

func enter(file string) error {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", file, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter namespace %s: %w", file, err)
	}
	return nil
}
