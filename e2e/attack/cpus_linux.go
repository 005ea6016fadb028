package attack

import (
	"os"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A flood is to show what the server does to other clients. Real attackers have their own machines,
// but here the flooder shares this one: what it sends is also received in its system calls, since
// loopback has no network card, and it wakes and fills caches. The priority of a process does not
// bound that work of the kernel. With two CPUs or more, the flooder therefore has one for itself, in
// all phases:
//
//	last CPU    the flooder, and the other server that is flooded for comparison
//	the others  the server, and the test process with the good clients
//
// The good clients are on the server's CPUs because they are then delayed by all that the server
// does, including what the kernel does for it, and by nothing that the flooder does. Beside the
// flooder, they would wait for the kernel's work there. Their own work is the same in quiet and
// flooded phases. They need no process of their own: the test process only waits meanwhile.
//
// The other server is on the flooder's CPU so that its phases show what the flooder and the memory
// of the machine do to the good clients while the server has nothing to do with it.
//
// With one CPU, all share it, and the flooder has the lowest priority.

// cpus are CPUs of the machine; nil are all of them.
type cpus = *unix.CPUSet

// serverCPUs and flooderCPUs are those of a measurement; nil with one CPU.
var allCPUs, serverCPUs, flooderCPUs = splitCPUs()

func splitCPUs() (all, servers, flooders cpus) {
	all = new(unix.CPUSet)
	if err := unix.SchedGetaffinity(0, all); err != nil || all.Count() < 2 {
		return nil, nil, nil
	}
	last := 0
	for i := range int(unsafe.Sizeof(*all)) * 8 {
		if all.IsSet(i) {
			last = i
		}
	}
	rest, one := *all, unix.CPUSet{}
	rest.Clear(last)
	one.Set(last)
	return all, &rest, &one
}

// startOn calls start in a thread on some CPUs, which a process that it starts has, too.
func startOn(c cpus, start func() error) error {
	if c == nil {
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return os.NewSyscallError("sched_getaffinity", err)
	}
	if err := unix.SchedSetaffinity(0, c); err != nil {
		return os.NewSyscallError("sched_setaffinity", err)
	}
	defer unix.SchedSetaffinity(0, &before)
	return start()
}

// confine moves this process to some CPUs, which the processes that it starts have, too.
func confine(to cpus) error {
	if to == nil {
		return nil
	}
	// A new thread has the CPUs of the one that made it, so there can be further ones to move.
	for moved := true; moved; {
		moved = false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range threads {
			id, _ := strconv.Atoi(t.Name()) // always a number
			var has unix.CPUSet
			if unix.SchedGetaffinity(id, &has) != nil || has == *to {
				continue // or the thread has ended
			}
			if err := unix.SchedSetaffinity(id, to); err != nil && err != unix.ESRCH {
				return os.NewSyscallError("sched_setaffinity", err)
			}
			moved = true
		}
	}
	runtime.SetDefaultGOMAXPROCS()
	return nil
}
