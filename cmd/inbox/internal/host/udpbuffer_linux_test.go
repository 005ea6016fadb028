package host

import (
	"net"
	"testing"
)

func TestUDPReceiveBuffer(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		packets, err := net.ListenPacket("udp", address)
		if err != nil {
			t.Fatal(err)
		}
		c := packets.(*net.UDPConn)
		port := c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		for _, size := range []int{20_000, 40_000} {
			if err := c.SetReadBuffer(size); err != nil {
				t.Fatal(err)
			}
			if got, known := UDPReceiveBuffer(port); got != ReceiveBuffer(c) || got < size || !known {
				t.Errorf("%s: got %d, %v, want %d", address, got, known, ReceiveBuffer(c))
			}
		}
		c.Close()
		if got, known := UDPReceiveBuffer(port); known {
			t.Errorf("%s, closed: got %d, want an unknown size", address, got)
		}
	}
}

// TestUDPReceiveBufferOfMalformedResponses checks that no response of the kernel crashes the
// parser.
func TestUDPReceiveBufferOfMalformedResponses(t *testing.T) {
	response := make([]byte, diagResponseBytes)
	response[diagResponsePort], response[diagResponsePort+1] = 13, 150 // 3478
	for _, attributes := range [][]byte{
		nil, {1}, {0, 0, 0, 0}, {3, 0, 7, 0}, {200, 0, 7, 0, 1}, {8, 0, 7, 0, 1, 2, 3, 4}, {5, 0, 1, 0, 9}, {12, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	} {
		if got, ok := bufferOf(append(response, attributes...), 3478); ok {
			t.Errorf("%v: got %d, want no size", attributes, got)
		}
	}
	if got, ok := bufferOf(response[:diagResponseBytes-1], 3478); ok {
		t.Errorf("short response: got %d, want no size", got)
	}
}
