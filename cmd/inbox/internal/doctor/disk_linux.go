package doctor

import "syscall"

// statDisk returns the file system's figures for a directory.
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
		d.ephemeral = ephemeralFS(uint32(s.Type)) // the type of s.Type depends on the architecture
	}
	return d, nil
}

// ephemeralFS returns why a file system loses its files, "" if it does not. magic
// is its number in statfs(2).
func ephemeralFS(magic uint32) string {
	switch magic {
	case 0x01021994, 0x858458f6: // tmpfs, ramfs
		return "is in memory only"
	case 0x794c7630: // overlayfs
		return "is in the writable layer of a container or live system, which is discarded with it"
	}
	return ""
}
