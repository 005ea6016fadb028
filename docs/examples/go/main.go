// Command peer connects two programs with a WebRTC data channel. An inbox server carries the
// messages that set the connection up. One program waits for calls and returns what it receives:
//
//	go run . -server https://localhost:3000 -insecure -name bob -password builder
//
// Another one calls it, sends the lines of its standard input and prints the replies:
//
//	go run . -server https://localhost:3000 -insecure -call bob
//
// Either end can also be the Python example or a page in a browser: all use the messages of
// docs/protocol.md, "Signals of a call". mailbox.go is the client of the server.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/pion/webrtc/v4"
)

func main() {
	server := flag.String("server", "https://localhost:3000", "address of the inbox server")
	name := flag.String("name", rand.Text(), "name of this program's mailbox")
	password := flag.String("password", rand.Text(), "password of this program's mailbox")
	to := flag.String("call", "", "name to call; empty to wait for calls")
	insecure := flag.Bool("insecure", false, "accept any certificate, for a server with a self-signed one")
	relay := flag.Bool("relay", false, "connect over the server's relay only")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: *insecure}
	e := &endpoint{
		mailbox: NewMailbox(*server, *name, *password, transport),
		calls:   map[string]*call{},
		lines:   make(chan string),
	}
	if *relay {
		e.policy = webrtc.ICETransportPolicyRelay
	}
	ctx, fail := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		fail(e.mailbox.Receive(ctx, func(from string, body []byte) { e.receive(ctx, from, body) }))
	}()
	if *to != "" {
		go readLines(ctx, e.lines, fail)
		go e.keepCalling(ctx, *to)
	}
	<-ctx.Done()
	<-done
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, errEnd) {
		log.Fatal(err)
	}
	ending, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = e.mailbox.Release(ending) // if it fails, the name expires after a minute
}

var errEnd = errors.New("end of input")

// readLines passes the lines of standard input on, and calls end after the last one.
func readLines(ctx context.Context, lines chan<- string, end func(error)) {
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		select {
		case lines <- input.Text():
		case <-ctx.Done():
			return
		}
	}
	end(errEnd)
}

// keepCalling calls until ctx ends: again when the other program is absent, and when a call fails.
func (e *endpoint) keepCalling(ctx context.Context, to string) {
	for ctx.Err() == nil {
		if err := e.callOnce(ctx, to); ctx.Err() == nil {
			log.Printf("call to %s: %v; calling again", to, err)
			time.Sleep(time.Second)
		}
	}
}

// callOnce makes one call and returns when it has ended.
func (e *endpoint) callOnce(ctx context.Context, to string) error {
	c, err := e.newCall(ctx, to, rand.Text())
	if err != nil {
		return err
	}
	defer c.close(errors.New("hung up"))
	channel, err := c.pc.CreateDataChannel("lines", nil)
	if err != nil {
		return err
	}
	channel.OnOpen(func() {
		log.Printf("connected to %s", to)
		go c.sendLines(channel, e.lines)
	})
	channel.OnMessage(func(m webrtc.DataChannelMessage) { fmt.Printf("%s: %s\n", to, m.Data) })
	offer, err := c.pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	if err := c.setLocal(offer, 0); err != nil {
		return err
	}
	<-c.ctx.Done()
	return context.Cause(c.ctx)
}

func (c *call) sendLines(channel *webrtc.DataChannel, lines <-chan string) {
	for {
		select {
		case <-c.ctx.Done():
			return
		case line := <-lines:
			if err := channel.SendText(line); err != nil {
				c.close(err)
				return
			}
		}
	}
}
