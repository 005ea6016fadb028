package doctor

import (
	"net"
	"os"
	"testing"

	"inbox/cmd/inbox/internal/host"
)

func TestStatDisk(t *testing.T) {
	d, err := statDisk(".")
	if err != nil || d.freeBytes == 0 {
		t.Errorf("got %+v, %v", d, err)
	}
	if d, err := statDisk("/proc/self"); err != nil || d.ephemeral != "" {
		t.Errorf("/proc: got %+v, %v", d, err)
	}
	if _, err := statDisk("/not/there"); err == nil {
		t.Error("no error for a directory that does not exist")
	}
}

// Numbers from statfs(2); the last one is ext4.
func TestEphemeralFS(t *testing.T) {
	for magic, want := range map[uint32]bool{0x01021994: true, 0x858458f6: true, 0x794c7630: true, 0xef53: false} {
		if got := ephemeralFS(magic); (got != "") != want {
			t.Errorf("ephemeralFS(%#x) = %q, want a reason: %v", magic, got, want)
		}
	}
}

// The directory exists but rejects files.
func TestDoctorWritesToState(t *testing.T) {
	s := newTestEnv(t)
	s.StateDir = "/proc/self"
	s.expectFinding(expect{"state", Failure, "The directory is unusable: open /proc/self/.doctor-", "another directory"})
}

func TestFindPortOwner(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.ListenPacket("udp", address)
		if err != nil {
			t.Fatal(err)
		}
		ports := map[string]string{"tcp": host.Port(l.Addr().String()), "udp": host.Port(u.LocalAddr().String())}
		for network, port := range ports {
			if owner, found := findPortOwner(network, port); !found || owner.pid != os.Getpid() || owner.name == "" {
				t.Errorf("%s %s: got %v, %v; want process %d", network, address, owner, found, os.Getpid())
			}
		}
		l.Close()
		u.Close()
		for network, port := range ports {
			if owner, found := findPortOwner(network, port); found {
				t.Errorf("%s: got %v for a free port", network, owner)
			}
		}
	}
	if _, found := findPortOwner("tcp", "no port"); found {
		t.Error("found an owner of an invalid port")
	}
}

func TestAddListeners(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:01BB 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0
   2: 00000000:11BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0
   3: short
`
	sockets := map[string]bool{}
	addListeners(sockets, table, boundState["tcp"], "443")
	if len(sockets) != 1 || !sockets["socket:[111]"] {
		t.Errorf("got %v, want only the listener", sockets)
	}
}
