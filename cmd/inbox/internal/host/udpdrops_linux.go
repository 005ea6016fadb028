package host

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// UDPDrops returns how many datagrams the kernel dropped since a socket was created, because
// its receive buffer was full or a checksum was wrong; false if it is unknown. The count wraps
// at 2^32. A socket that systemd keeps open counts across restarts.
func UDPDrops(c *net.UDPConn) (datagrams int64, known bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	var stat syscall.Stat_t
	if controlErr := raw.Control(func(fd uintptr) { err = syscall.Fstat(int(fd), &stat) }); controlErr != nil || err != nil {
		return 0, false
	}
	for _, table := range []string{"udp6", "udp"} { // a dual-stack socket is in udp6
		f, err := os.Open("/proc/self/net/" + table)
		if err != nil {
			continue
		}
		datagrams, known = findDrops(bufio.NewScanner(f), fmt.Sprint(stat.Ino))
		f.Close()
		if known {
			return datagrams, true
		}
	}
	return 0, false
}

// findDrops returns the drops of the socket with the inode in a table of /proc/net.
func findDrops(table *bufio.Scanner, inode string) (int64, bool) {
	const inodeField, dropsField = 9, 12
	for table.Scan() {
		fields := strings.Fields(table.Text())
		if len(fields) > dropsField && fields[inodeField] == inode {
			n, err := strconv.ParseInt(fields[dropsField], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
