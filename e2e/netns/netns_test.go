package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func requireNamespaces(t *testing.T) {
	t.Helper()
	why := Missing()
	if why != "" && os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	if why != "" {
		t.Skip(why)
	}
}

// pair returns a network of two hosts, left 192.0.2.1 and right 192.0.2.2.
func pair(t *testing.T) Network {
	t.Helper()
	n, err := New("inbox-netns")
	t.Cleanup(func() {
		if err := n.Remove(); err != nil {
			t.Error(err)
		}
	})
	if err == nil {
		err = n.IP(
			"netns add LEFT", "netns add RIGHT",
			"link add eth0 netns LEFT type veth peer name eth0 netns RIGHT",
			"-n LEFT addr add 192.0.2.1/24 dev eth0", "-n RIGHT addr add 192.0.2.2/24 dev eth0",
			"-n LEFT link set eth0 up", "-n RIGHT link set eth0 up",
		)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSocketsBelongToHosts(t *testing.T) {
	requireNamespaces(t)
	n := pair(t)
	capture, err := n.Capture("left")
	if err != nil {
		t.Fatal(err)
	}
	defer capture.Close()
	var receiver, sender net.Conn
	listen := func() error {
		c, err := net.ListenPacket("udp", "192.0.2.2:9999")
		if err == nil {
			receiver = c.(*net.UDPConn)
		}
		return err
	}
	dial := func() (err error) {
		sender, err = net.Dial("udp", "192.0.2.2:9999")
		return err
	}
	if err := n.Do("right", listen); err != nil {
		t.Fatal(err)
	}
	defer receiver.Close()
	if err := n.Do("left", dial); err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	fmt.Fprint(sender, "hello")
	receiver.SetReadDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, 10)
	if size, err := receiver.Read(buf); err != nil || string(buf[:size]) != "hello" {
		t.Fatalf("got %q, %v, want hello", buf[:size], err)
	}
	want := Packet{17, netip.MustParseAddrPort("192.0.2.2:9999")}
	for began := time.Now(); capture.Sent()[want] != (Traffic{1, 20 + 8 + 5}); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("got packets %v, want one to %v", capture.Sent(), want)
		}
	}
}

func TestConfigureReplacesFiles(t *testing.T) {
	requireNamespaces(t)
	n := pair(t)
	if err := n.Configure("left", "hosts", "192.0.2.2 right\n"); err != nil {
		t.Fatal(err)
	}
	out, err := n.Command("left", "cat", "/etc/hosts").Output()
	if err != nil || string(out) != "192.0.2.2 right\n" {
		t.Errorf("got hosts %q, %v, want the configured ones", out, err)
	}
}

// A network whose process was killed is removed by the next one of its purpose.
func TestLeftovers(t *testing.T) {
	requireNamespaces(t)
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	left := Network{fmt.Sprintf("inbox-netns%d-", ended.Process.Pid)}
	if err := left.IP("netns add HOST"); err != nil {
		t.Fatal(err)
	}
	if err := left.Configure("host", "hosts", ""); err != nil {
		t.Fatal(err)
	}
	pair(t)
	if slices.ContainsFunc(namespaces("inbox-netns"), func(name string) bool { return strings.HasPrefix(name, left.Name) }) {
		t.Errorf("got namespace %shost, want it removed", left.Name)
	}
}
