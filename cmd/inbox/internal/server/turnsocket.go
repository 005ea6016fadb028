package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/host"
)

const (
	// turnBufferBytes is the size of the receive buffer to request: half a second of packets
	// at 70 Mbit/s, while the processor is busy otherwise. Below minTURNBufferBytes, bursts
	// are lost on a busy machine.
	turnBufferBytes    = 4 << 20
	minTURNBufferBytes = 1 << 20
	// turnBindInterval is how often an occupied default port is tried again.
	turnBindInterval = time.Second
)

// bindTURN returns the UDP socket of the relay: the passed one, or one bound to -turn-bind. It
// is nil if the relay is off, or if the default port cannot be bound: TURN over TLS remains, and
// [awaitTURNPort] tries again. An explicit -turn-bind that cannot be bound is an error.
func bindTURN(c *config.TURN, passed *net.UDPConn, log *slog.Logger) (*net.UDPConn, error) {
	if c == nil || !c.Relay {
		if passed != nil {
			passed.Close()
			log.Info("the turn socket passed by systemd is not used: this server is no relay")
		}
		return nil, nil
	}
	socket := passed
	if socket == nil {
		var err error
		if socket, err = listenUDP(c.Bind); err != nil {
			if c.Bind.From != "" {
				return nil, err
			}
			log.Warn("no STUN and TURN over UDP, and trying again each second: calls between some networks are slow or fail", "err", err)
			return nil, nil
		}
	} else if c.Bind.From != "" {
		log.Warn("-turn-bind is ignored: using sockets passed by systemd", "from", c.Bind.From)
	}
	growReceiveBuffer(socket, log)
	return socket, nil
}

// awaitTURNPort returns a socket on the default port once it can be bound; nil if ctx is done
// before. The port is often that of the previous process, which stops more slowly than this one
// starts: it relays calls until it has answered its last request and saved the mailboxes.
func awaitTURNPort(ctx context.Context, c *config.TURN, log *slog.Logger) *net.UDPConn {
	ticker := time.NewTicker(turnBindInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if socket, err := listenUDP(c.Bind); err == nil {
			log.Info("STUN and TURN over UDP work now", "addr", socket.LocalAddr().String())
			growReceiveBuffer(socket, log)
			return socket
		}
	}
}

func listenUDP(a config.Address) (*net.UDPConn, error) {
	c, err := net.ListenPacket("udp", a.Value)
	if err != nil {
		return nil, bindError(a.Option, a.Value, err)
	}
	return c.(*net.UDPConn), nil
}

// growReceiveBuffer enlarges the receive buffer as far as the kernel allows, and warns if it
// stays small. Systemd can give a larger one, which must not shrink.
func growReceiveBuffer(c *net.UDPConn, log *slog.Logger) {
	size := host.ReceiveBuffer(c)
	if size >= turnBufferBytes {
		return
	}
	if err := c.SetReadBuffer(turnBufferBytes); err != nil {
		log.Warn("set the receive buffer of TURN", "err", err)
	}
	if size = host.ReceiveBuffer(c); 0 < size && size < minTURNBufferBytes {
		log.Warn("the receive buffer of TURN over UDP is small: packets of calls are lost when the machine is busy",
			"bytes", size, "fix", fmt.Sprintf("sysctl -w net.core.rmem_max=%d, or use inbox-turn.socket of systemd", turnBufferBytes))
	}
}
