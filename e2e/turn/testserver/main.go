// Testserver serves TURN and GET /ice until the program does.
package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"flag"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
	"inbox/public"
	"inbox/turn"
)

type prefixed struct {
	net.Conn
	r *bufio.Reader
}

func (p prefixed) Read(b []byte) (int, error) { return p.r.Read(b) }

type handed chan net.Conn

func (h handed) Accept() (net.Conn, error) { return <-h, nil }
func (h handed) Close() error              { return nil }
func (h handed) Addr() net.Addr            { return &net.TCPAddr{} }

func main() {
	bind := flag.String("bind", ":443", "")
	cert := flag.String("server-cert", "", "")
	key := flag.String("server-key", "", "")
	udp := flag.String("turn-bind", ":3478", "")
	flag.String("state", "", "")
	flag.String("public", "", "")
	flag.Parse()
	s, err := turn.New(turn.Config{Secret: make([]byte, 32)})
	check(err)
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	check(err)
	pc, err := net.ListenPacket("udp", *udp)
	check(err)
	go s.ServeUDP(pc.(*net.UDPConn))
	l, err := tls.Listen("tcp", *bind, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"stun.turn", "h2", "http/1.1"}})
	check(err)
	h := make(handed)
	store := memstore.New(inbox.Limits{Timeout: time.Minute, Capacity: 100, MaxInboxes: 10_000, MaxInboxesPerPayer: 100, MaxQueuedBytes: 64 << 20, MaxQueuedBytesPerPayer: 8 << 20})
	mailboxes := inbox.NewHandler(inbox.Config{
		Store: store, Secret: make([]byte, 32), Path: "/inbox", ICEPath: "/ice0",
		PollTimeout: 25 * time.Second, WriteTimeout: 30 * time.Second,
		MaxBodyBytes: 1 << 20, MaxInFlightBytes: 64 << 20, Alive: inbox.Alive, Guard: guard{},
		Payer: func(r *http.Request) inbox.Payer { return inbox.Payer{Client: "a", Network: "b"} },
	})
	go func() { ch := make(chan os.Signal, 1); signal.Notify(ch, syscall.SIGTERM); <-ch; os.Exit(0) }()
	mux := http.NewServeMux()
	mux.Handle("/inbox", mailboxes)
	mux.Handle("/", public.Embedded(public.Options{}))
	go (&http.Server{Handler: mux, ConnContext: inbox.ConnContext}).Serve(h)
	mux.Handle("/ice", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		owner, _, _ := r.BasicAuth()
		c := s.Credentials(owner, turn.Payer{})
		host := r.Host
		json.NewEncoder(w).Encode(map[string]any{"iceServers": []any{
			map[string]any{"urls": []string{"stun:" + host + ":3478"}},
			map[string]any{"urls": []string{"turn:" + host + ":3478?transport=udp", "turns:" + host + ":443?transport=tcp"}, "username": c.Username, "credential": c.Password},
		}})
	}))
	slog.New(slog.NewTextHandler(os.Stderr, nil)).Info("listening", "addr", l.Addr())
	for {
		c, err := l.Accept()
		check(err)
		go func() {
			t := c.(*tls.Conn)
			if t.Handshake() != nil {
				c.Close()
				return
			}
			if t.ConnectionState().NegotiatedProtocol == "stun.turn" {
				s.ServeConn(c)
				return
			}
			if t.ConnectionState().NegotiatedProtocol != "" {
				h <- c
				return
			}
			r := bufio.NewReader(c)
			if b, err := r.Peek(1); err == nil && b[0] < 4 {
				s.ServeConn(prefixed{c, r})
				return
			}
			h <- prefixed{c, r}
		}()
	}
}

func check(err error) {
	if err != nil {
		slog.Error("failed", "err", err)
		os.Exit(1)
	}
}

type guard struct{}

func (guard) Allow(*http.Request, inbox.Attempt, string) error           { return nil }
func (guard) Reserve(*http.Request, inbox.Attempt, string) (bool, error) { return true, nil }
func (guard) Release(*http.Request, inbox.Attempt, string)               {}
func (guard) Record(*http.Request, inbox.Attempt, string)                {}
