package doctor

import "syscall"

// statDisk asks the kernel about the file system of a directory.
func statDisk(dir string) (disk, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return disk{}, err
	}
	d := disk{
		ephemeral:  ephemeralPath(dir),
		freeBytes:  s.Bavail * uint64(s.Bsize),
		allInodes:  s.Files,
		freeInodes: s.Ffree,
	}
	if d.ephemeral == "" {
		d.ephemeral = ephemeralFS(uint32(s.Type)) // its type differs by architecture
	}
	return d, nil
}

// ephemeralFS says why a file system does not keep its files, or nothing, by
// its number (statfs(2)).
func ephemeralFS(magic uint32) string {
	switch magic {
	case 0x01021994, 0x858458f6: // tmpfs, ramfs
		return "is in memory only"
	case 0x794c7630: // overlayfs
		return "is in the top layer of a container or a live system, which is thrown away with it"
	}
	return ""
}
