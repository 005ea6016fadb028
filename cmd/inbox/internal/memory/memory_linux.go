package memory

import "syscall"

// systemMemory returns the machine's memory as of sysinfo(2): the systemd unit
// hides /proc/meminfo from the service.
func systemMemory() int64 {
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) != nil {
		return 0
	}
	return int64(uint64(info.Totalram) * uint64(info.Unit))
}
