package soak

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// oneWayLatency is the one-way latency to a distant client.
const oneWayLatency = 60 * time.Millisecond

// startLatencyProxy returns the address of a proxy to addr that delays both directions.
func startLatencyProxy(t *testing.T, addr string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				server, err := net.Dial("tcp", addr)
				if err != nil {
					client.Close()
					return
				}
				go forwardDelayed(client, server)
				forwardDelayed(server, client)
			}()
		}
	}()
	return l.Addr().String()
}

// delayedChunk is the result of one read and the time of its delivery. Empty data
// stands for the end of the stream.
type delayedChunk struct {
	data      []byte
	deliverAt time.Time
}

// forwardDelayed forwards data and the end of the stream in one direction.
func forwardDelayed(from, to net.Conn) {
	chunks := make(chan delayedChunk, 10_000)
	go func() {
		for p := range chunks {
			time.Sleep(time.Until(p.deliverAt))
			if len(p.data) == 0 {
				to.Close()
			} else if _, err := to.Write(p.data); err != nil {
				from.Close()
			}
		}
	}()
	defer close(chunks)
	for {
		buf := make([]byte, 16<<10)
		n, err := from.Read(buf)
		if n > 0 {
			chunks <- delayedChunk{buf[:n], time.Now().Add(oneWayLatency)}
		}
		if err != nil {
			chunks <- delayedChunk{nil, time.Now().Add(oneWayLatency)}
			return
		}
	}
}

// POSTs of distant, mostly idle clients cross the shutdown of their connection. Over
// HTTP/2 every one is answered: GOAWAY tells the client which requests were not
// processed, and it repeats them on a new connection. HTTP/1.1 has no such signal.
func TestPostsAcrossRestartWithLatency(t *testing.T) {
	s := startService(t, true)
	addr := startLatencyProxy(t, s.addr)
	var answered, broken [3]atomic.Int64
	var logOnce sync.Once
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for n := range 120 {
		version := 1 + n%2
		transport := &http.Transport{ForceAttemptHTTP2: version == 2, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		client := &http.Client{Timeout: time.Minute, Transport: transport}
		clients.Go(func() {
			defer transport.CloseIdleConnections()
			for ctx.Err() == nil {
				r, _ := http.NewRequest("POST", "https://"+addr+"/inbox?to=unclaimed", strings.NewReader("hello"))
				r.SetBasicAuth(fmt.Sprint("far-", n), "secret")
				if resp, err := client.Do(r); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					answered[version].Add(1)
				} else {
					broken[version].Add(1)
					if version == 2 {
						logOnce.Do(func() { t.Log(err) })
					}
				}
				time.Sleep(600*time.Millisecond + rand.N(600*time.Millisecond))
			}
		})
	}
	time.Sleep(3 * time.Second)
	for range 5 {
		if _, err := s.restart(); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
	}
	cancel()
	clients.Wait()
	for version := 1; version <= 2; version++ {
		t.Logf("HTTP/%d: %d responses, %d failures", version, answered[version].Load(), broken[version].Load())
	}
	// On a busy machine GOAWAY can be late. Without GOAWAY one POST in 25 failed.
	if a, b := answered[2].Load(), broken[2].Load(); b*50 > a || a < 200 {
		t.Errorf("HTTP/2: got %d failures and %d responses, want at most 2 %% failures and 200 responses at least", b, a)
	}
}
