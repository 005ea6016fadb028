package clients

import (
	"io"
	"net"
	"sync"
	"time"
)

// slowLink relays connections to a server over a link that carries little to the server.
// It passes a reset on, as a network does.
type slowLink struct {
	net.Listener
	server string
	relays sync.WaitGroup
}

// A piece each interval are about 6 MB/s: a large body takes longer than the half second
// that net/http waits before it closes a connection, and does not fit into the buffers of
// the kernel.
const (
	pieceBytes    = 32 << 10
	pieceInterval = 5 * time.Millisecond
)

func listenSlowLink(server string) (*slowLink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &slowLink{Listener: l, server: server}
	s.relays.Go(s.accept)
	return s, nil
}

func (s *slowLink) accept() {
	for {
		c, err := s.Accept()
		if err != nil {
			return
		}
		s.relays.Go(func() { s.relay(c.(*net.TCPConn)) })
	}
}

// Close ends the listener, and waits for the clients to close their connections.
func (s *slowLink) Close() error {
	err := s.Listener.Close()
	s.relays.Wait()
	return err
}

func (s *slowLink) relay(client *net.TCPConn) {
	defer client.Close()
	server, err := net.Dial("tcp", s.server)
	if err != nil {
		return
	}
	defer server.Close()
	_ = client.SetReadBuffer(2 * pieceBytes) // otherwise the kernel takes most of a body at once
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := io.Copy(client, server); err != nil {
			_ = client.SetLinger(0) // closes with a reset
			client.Close()
			return
		}
		_ = client.CloseWrite()
	}()
	if err := copySlowly(server, client); err != nil {
		_ = client.SetLinger(0)
		client.Close()
		server.Close()
	} else {
		_ = server.(*net.TCPConn).CloseWrite()
	}
	<-done
}

func copySlowly(to io.Writer, from io.Reader) error {
	piece, sent := make([]byte, pieceBytes), 0
	for {
		n, err := from.Read(piece)
		sent += n
		if _, err := to.Write(piece[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if sent >= pieceBytes {
			sent -= pieceBytes
			time.Sleep(pieceInterval)
		}
	}
}
