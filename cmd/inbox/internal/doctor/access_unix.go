//go:build unix

package doctor

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// serviceUser is the user that the server runs as.
type serviceUser struct {
	uid    uint32
	groups []uint32
}

// findServiceUser returns the owner of the state directory, if the doctor runs as
// root and the server does not.
func findServiceUser(stateDir string) (serviceUser, bool) {
	info, err := os.Stat(stateDir)
	if err != nil || os.Geteuid() != 0 {
		return serviceUser{}, false
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return serviceUser{}, false
	}
	u := serviceUser{owner.Uid, []uint32{owner.Gid}}
	if account, err := user.LookupId(strconv.Itoa(int(owner.Uid))); err == nil { // a dynamic user has no entry
		ids, _ := account.GroupIds()
		for _, id := range ids {
			if gid, err := strconv.ParseUint(id, 10, 32); err == nil {
				u.groups = append(u.groups, uint32(gid))
			}
		}
	}
	return u, true
}

// obstacle returns what keeps the user from reading a file: the path, or a directory
// on the way, and its mode; "" if nothing does. It follows symbolic links, as those of
// certbot, and does not know access control lists.
func (u serviceUser) obstacle(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "" // the check of the files reports it
	}
	for _, p := range []string{path, real} {
		if dir := u.closedDir(filepath.Dir(p)); dir != "" {
			return dir
		}
	}
	return u.missing(real, 4)
}

// closedDir returns the outermost directory that the user cannot pass.
func (u serviceUser) closedDir(dir string) string {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	if parent := filepath.Dir(absolute); parent != absolute {
		if closed := u.closedDir(parent); closed != "" {
			return closed
		}
	}
	return u.missing(absolute, 1)
}

// missing describes a path for which the user lacks a permission bit.
func (u serviceUser) missing(path string, bit fs.FileMode) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	switch mode := info.Mode().Perm(); {
	case owner.Uid == u.uid:
		bit <<= 6
	case slices.Contains(u.groups, owner.Gid):
		bit <<= 3
	default:
		if mode&bit != 0 {
			return ""
		}
	}
	if info.Mode().Perm()&bit != 0 {
		return ""
	}
	return fmt.Sprintf("%s has mode %04o", path, info.Mode().Perm())
}
