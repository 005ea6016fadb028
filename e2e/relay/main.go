// Command relay is a TURN server for tests of the pages. It runs apart from the
// mailbox server, so that a test can end one without the other. It relays on
// 127.0.0.1 only.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"

	"github.com/pion/turn/v5"
)

const (
	realm    = "test"
	password = "secret"
)

func main() {
	bind := flag.String("bind", "127.0.0.1:3478", "UDP address and TCP address to listen on")
	flag.Parse()
	if err := start(*bind); err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		os.Exit(1)
	}
	fmt.Println("listening")
	select {}
}

// start listens on addr and relays until the process ends.
func start(addr string) error {
	udp, err := net.ListenPacket("udp4", addr)
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp4", addr)
	if err != nil {
		return err
	}
	loopback := net.IPv4(127, 0, 0, 1)
	relays := &turn.RelayAddressGeneratorStatic{RelayAddress: loopback, Address: loopback.String()}
	_, err = turn.NewServer(turn.ServerConfig{
		Realm:             realm,
		AuthHandler:       authenticate,
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: udp, RelayAddressGenerator: relays}},
		ListenerConfigs:   []turn.ListenerConfig{{Listener: tcp, RelayAddressGenerator: relays}},
	})
	return err
}

// authenticate accepts any name with the password of the tests.
func authenticate(r *turn.RequestAttributes) (user string, key []byte, ok bool) {
	return r.Username, turn.GenerateAuthKey(r.Username, realm, password), true
}
