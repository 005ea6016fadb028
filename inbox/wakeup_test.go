package inbox_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"inbox/inbox"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

var wakeUpMessages = flag.Int("wakeup-messages", 60, "messages of each client of TestNoWakeUpIsLost")

// wakeUpTimeout is below the interval of pings: a ping would hide a lost wake-up.
const wakeUpTimeout = 20 * time.Second

// wakeUpClient sends messages to others, and acknowledges what it gets, at times late.
type wakeUpClient struct {
	name    string
	conn    net.Conn
	r       io.Reader
	writing sync.Mutex
	answers chan string   // ok or fail
	got     chan struct{} // a message arrived
	random  *rand.Rand    // of its reader
}

func (c *wakeUpClient) Read(p []byte) (int, error)  { return c.r.Read(p) }
func (c *wakeUpClient) Write(p []byte) (int, error) { return c.conn.Write(p) }

func (c *wakeUpClient) send(frame string) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return wsutil.WriteClientText(c.conn, []byte(frame))
}

// read handles frames until the connection ends. It acknowledges each message, or some together.
func (c *wakeUpClient) read() {
	for {
		b, _, err := wsutil.ReadServerData(c)
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(string(b), " ")
		if verb != "msg" {
			c.answers <- verb
			continue
		}
		c.got <- struct{}{}
		if c.random.IntN(4) == 0 {
			time.Sleep(rand.N(2 * time.Millisecond))
		}
		id, _, _ := strings.Cut(rest, " ")
		if err := c.send("ack " + id); err != nil {
			return
		}
	}
}

// talk sends messages, each after the answer to the one before it. A full mailbox is tried again.
func (c *wakeUpClient) talk(names []string, n int, random *rand.Rand) error {
	for ref, stored := 1, 0; stored < n; ref++ {
		if random.IntN(8) == 0 {
			time.Sleep(rand.N(20 * time.Millisecond)) // lets others rest
		}
		if err := c.send(fmt.Sprintf("send %d %s text x", ref, names[random.IntN(len(names))])); err != nil {
			return err
		}
		select {
		case answer := <-c.answers:
			if answer == "ok" {
				stored++
			} else if answer != "fail" {
				return errors.New(answer)
			}
		case <-time.After(wakeUpTimeout):
			return fmt.Errorf("%s: send %d has no answer", c.name, ref)
		}
	}
	return nil
}

func (s *socketServer) dialWakeUp(t *testing.T, name string, seed uint64) *wakeUpClient {
	dialer := ws.Dialer{Timeout: socketTimeout, TLSConfig: &tls.Config{InsecureSkipVerify: true}}
	conn, r, _, err := dialer.Dial(t.Context(), "ws"+strings.TrimPrefix(s.web.URL, "http")+"/inbox")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &wakeUpClient{
		name: name, conn: conn, r: conn, answers: make(chan string, 10), got: make(chan struct{}, 10000),
		random: rand.New(rand.NewPCG(seed, 1)),
	}
	if r != nil {
		c.r = r
	}
	if err := c.send("hello " + name + " secret after="); err != nil {
		t.Fatal(err)
	}
	if b, _, err := wsutil.ReadServerData(c); err != nil || !bytes.HasPrefix(b, []byte("welcome ")) {
		t.Fatalf("got %q, %v", b, err)
	}
	go c.read()
	return c
}

// TestNoWakeUpIsLost relays messages among many clients through windows of a few messages, so that
// receivers rest, wake and stop at a full window all the time. A message, or the answer to one, that
// is not written until something else happens takes longer than the timeout.
func TestNoWakeUpIsLost(t *testing.T) {
	const clients = 24
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for processors := 1; processors <= 4; processors++ {
		for _, scheme := range []string{"http", "https"} {
			t.Run(fmt.Sprintf("%d processors, %s", processors, scheme), func(t *testing.T) {
				runtime.GOMAXPROCS(processors)
				capacity := []int{2, 3, 6, 100}[processors-1] // windows of 1, 2, 4 and 64
				s := newServerOver(t, scheme, func(c *inbox.Config, l *inbox.Limits) { c.Capacity, l.Capacity = capacity, capacity })
				var names []string
				var all []*wakeUpClient
				for i := range clients {
					names = append(names, "peer"+strconv.Itoa(i))
					all = append(all, s.dialWakeUp(t, names[i], uint64(i)))
				}
				var talking sync.WaitGroup
				for i, c := range all {
					talking.Go(func() {
						if err := c.talk(names, *wakeUpMessages, rand.New(rand.NewPCG(uint64(i), 2))); err != nil {
							t.Error(err)
						}
					})
				}
				talking.Wait()
				timeout, arrived := time.After(wakeUpTimeout), func() (n int) {
					for _, c := range all {
						n += len(c.got)
					}
					return n
				}
				for want := clients * *wakeUpMessages; arrived() < want; time.Sleep(time.Millisecond) {
					select {
					case <-timeout:
						t.Fatalf("%d of %d messages arrived, %d are in the store", arrived(), want, s.store.Stats().Queued)
					default:
					}
				}
			})
		}
	}
}
