package main

import (
	"context"
	"net"
	"strconv"
	"sync"
	"time"
)

const (
	// flooders is how many clients flood at once, each from floodAddresses addresses in turn.
	flooders       = 32
	floodAddresses = 200
	// floodTimeout bounds one step of a flooder.
	floodTimeout = 5 * time.Second
)

// flood makes requests, opens WebSockets and event streams, and connects without a request, as fast
// as the server lets it. Errors are expected: most of it is refused.
func flood(ctx context.Context, t target, duration time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	var wg sync.WaitGroup
	for n := range flooders {
		wg.Go(func() {
			var held []func()
			for i := 0; ctx.Err() == nil; i++ {
				source := net.IPv4(127, 200, byte(1+n), byte(1+i%floodAddresses))
				if end := floodOnce(ctx, t, source, "flood-"+strconv.Itoa(n)+"-"+strconv.Itoa(i), i%4); end != nil {
					held = append(held, end)
				}
			}
			for _, end := range held {
				end()
			}
		})
	}
	wg.Wait()
}

// floodOnce does one of four things. It returns a function that closes what stays open.
func floodOnce(ctx context.Context, t target, source net.IP, name string, kind int) (end func()) {
	ctx, cancel := context.WithTimeout(ctx, floodTimeout)
	defer cancel()
	switch kind {
	case 0:
		if conn, err := t.dial(ctx, source, "http/1.1"); err == nil {
			return func() { conn.Close() }
		}
	case 1:
		if conn, err := openInbox(ctx, t, source, name); err == nil {
			return conn.close
		}
	case 2:
		if _, conn, err := beginEvents(ctx, t, source, name); err == nil {
			return conn.close
		}
	case 3:
		postMany(ctx, t, source, name)
	}
	return nil
}

// postMany sends messages to names that do not exist until it is refused.
func postMany(ctx context.Context, t target, source net.IP, name string) {
	conn, err := dialHTTP(ctx, t, source)
	if err != nil {
		return
	}
	defer conn.close()
	defer context.AfterFunc(ctx, conn.close)()
	post := request("POST /inbox?to=nobody-"+name, t.addr, name, "", []byte("hello"))
	for range 20 {
		if _, err := conn.roundTrip(post, nil); err != nil {
			return
		}
	}
}
