//go:build linux

package invite

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/redisstore"
)

// TestRevokingManyOnRedis revokes invitations with two claims each, one at each of two nodes, and logs how
// long it takes until all have ended. With INVITATIONS=5000, as many as there can be, this measures it.
func TestRevokingManyOnRedis(t *testing.T) {
	nodes := make([]*Access, 2)
	stores := make([]*redisstore.Store, 2)
	address := startRedis(t)
	for i := range nodes {
		stores[i] = redisstore.New(redisstore.Config{Address: address, Limits: inbox.Limits{Timeout: time.Hour, Capacity: 100}})
		t.Cleanup(stores[i].Shutdown)
		for by := time.Now().Add(30 * time.Second); stores[i].Ready() != nil && time.Now().Before(by); {
			time.Sleep(10 * time.Millisecond)
		}
	}
	storage := NewShared(stores[0], redisstore.Prefix, nil)
	many, err := strconv.Atoi(cmp.Or(os.Getenv("INVITATIONS"), "500"))
	if err != nil {
		t.Fatal(err)
	}
	tokens := make([]string, many)
	err = update(t.Context(), storage, time.Now(), func(r *registry) error {
		for i := range tokens {
			var d digest
			tokens[i], d = newToken()
			r.add(Invitation{Label: "many", Created: time.Now(), Expires: time.Now().Add(time.Hour)}, d)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range nodes {
		if nodes[i], err = New(Config{Storage: NewShared(stores[i], redisstore.Prefix, nil), Store: stores[i], Remember: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	ends := make(chan error, 2*len(tokens))
	slots := make(chan struct{}, 64)
	for i, token := range tokens {
		for n, a := range nodes {
			slots <- struct{}{}
			go func() {
				defer func() { <-slots }()
				name := fmt.Sprint("name-", n, "-", i)
				c, err := stores[n].Open(t.Context(), name, inbox.Key{}, &inbox.Payer{})
				if err == nil {
					err = a.Opened(token, c, "owner of "+name)
				}
				if err == nil {
					_, err = stores[n].Watch(c, func(end error) {
						if end != nil {
							ends <- end
						}
					})
				}
				if err != nil {
					t.Error(err)
				}
			}()
		}
	}
	for range cap(slots) {
		slots <- struct{}{}
	}
	for _, a := range nodes {
		go a.Run(t.Context())
	}
	began := time.Now()
	if revoked, err := Revoke(t.Context(), storage, AllLabels, began); err != nil || len(revoked) != len(tokens) {
		t.Fatalf("got %d revoked, %v", len(revoked), err)
	}
	stored := time.Now()
	for i := range cap(ends) {
		select {
		case <-ends:
		case <-time.After(30 * time.Second):
			t.Fatalf("got %d ends", i)
		}
	}
	t.Logf("stored after %v; all %d claims ended %v later", stored.Sub(began), cap(ends), time.Since(stored))
	for _, a := range nodes {
		for by := time.Now().Add(30 * time.Second); a.Stats().Claims != 0; time.Sleep(time.Millisecond) {
			if time.Now().After(by) {
				t.Fatalf("got %+v, want no claims", a.Stats())
			}
		}
	}
}

func startRedis(t *testing.T) redisstore.Address {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("redis-server is missing: apt install redis-server")
		}
		t.Skip("redis-server is missing: apt install redis-server")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	l.Close()
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	address, err := redisstore.ParseAddress("redis://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	return address
}
