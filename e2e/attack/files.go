package attack

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// exhaustFiles uses a server that may open 1024 files. It opens connections from many
// addresses, and requests large files over them that it does not read.
func exhaustFiles(ctx context.Context, s *scenario) {
	if !s.log.has("the limit of open files allows few connections") {
		s.fail("got no warning of the low limit of open files")
	}
	const conns = 350
	var opened, answered atomic.Int64
	var open [conns]net.Conn
	parallel(conns, 16, func(i int) {
		c, err := s.dialSmallBuffer(ctx, attackerAddr(i%60), "http/1.1")
		if err != nil {
			return
		}
		open[i] = c
		opened.Add(1)
		c.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(c, "GET /large.bin HTTP/1.1\r\nHost: inbox\r\n\r\n")
		if n, _ := c.Read(make([]byte, 16)); n > 0 {
			answered.Add(1)
		}
	})
	files := s.proc.OpenFiles()
	if err := s.newClientIsServed(ctx); err != nil {
		s.fail("a new client with %d open files: %v", files, err)
	}
	for _, c := range open {
		if c != nil {
			c.Close()
		}
	}
	s.addFigure("%d connections of 60 addresses with unread files, %d answered, %d files open", opened.Load(), answered.Load(), files)
	if files >= 1000 {
		s.fail("got %d open files, want some left of 1024", files)
	}
}
