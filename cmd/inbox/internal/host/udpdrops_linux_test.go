package host

import (
	"net"
	"testing"
	"time"
)

// TestUDPDrops overfills a socket of each address family. Nothing reads it, so all datagrams
// beyond its buffer are dropped.
func TestUDPDrops(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) {
			packets, err := net.ListenPacket("udp", address)
			if err != nil {
				t.Fatal(err)
			}
			c := packets.(*net.UDPConn)
			defer c.Close()
			if err := c.SetReadBuffer(4096); err != nil {
				t.Fatal(err)
			}
			if n, known := UDPDrops(c); n != 0 || !known {
				t.Fatalf("new socket: got %d, %v, want 0, true", n, known)
			}
			sender, err := net.Dial("udp", c.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer sender.Close()
			const sent = 200
			for range sent {
				if _, err := sender.Write(make([]byte, 1000)); err != nil {
					t.Fatal(err)
				}
			}
			deadline := time.Now().Add(30 * time.Second)
			for {
				n, _ := UDPDrops(c)
				if 0 < n && n < sent {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("got %d drops of %d datagrams", n, sent)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

func TestUDPDropsOfClosedSocket(t *testing.T) {
	c, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if n, known := UDPDrops(c); known {
		t.Errorf("got %d, want an unknown number", n)
	}
}
