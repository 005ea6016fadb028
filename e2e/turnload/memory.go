package main

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// measureMemory prints the memory of allocations: the heap after a garbage collection, and
// the stacks.
func measureMemory(cfg config, t *target, out io.Writer) error {
	for _, overTLS := range []bool{false, true} {
		before, err := t.memory()
		if err != nil {
			return err
		}
		clients, err := openMany(t, cfg.memory, overTLS)
		if err != nil {
			return err
		}
		after, err := t.memory()
		for _, c := range clients {
			c.close()
		}
		if err != nil {
			return err
		}
		name := "UDP"
		if overTLS {
			name = "TLS"
		}
		fmt.Fprintf(out, "memory of an allocation over %s, of %d: %.1f KB\n", name, len(clients),
			float64(after-before)/float64(len(clients))/1000)
	}
	return nil
}

// openMany opens allocations from many networks.
func openMany(t *target, n int, overTLS bool) ([]client, error) {
	clients := make([]client, n)
	var mu sync.Mutex
	var failed error
	var wg sync.WaitGroup
	turns := make(chan struct{}, 8)
	for i := range clients {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			c, err := t.dial(t, fmt.Sprintf("127.%d.%d.1", 70+i/250, i%250), overTLS)
			mu.Lock()
			defer mu.Unlock()
			if clients[i] = c; err != nil {
				failed = err
			}
		})
	}
	wg.Wait()
	return clients, failed
}

var memoryPattern = regexp.MustCompile(`(?m)^# (HeapAlloc|Stack) = (\d+)`)

// memory returns the bytes of the heap and of the stacks.
func (t *target) memory() (total int64, err error) {
	for range 2 { // the second collection frees what the first one finalizes
		resp, err := http.Get("http://" + t.metrics + "/debug/pprof/heap?gc=1&debug=1")
		if err != nil {
			return 0, err
		}
		text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
		resp.Body.Close()
		if err != nil {
			return 0, err
		}
		found := memoryPattern.FindAllSubmatch(text, -1)
		if len(found) != 2 {
			return 0, fmt.Errorf("GET /debug/pprof/heap: got status %d and no sizes", resp.StatusCode)
		}
		total = 0
		for _, m := range found {
			bytes, _ := strconv.ParseInt(string(m[2]), 10, 64) // digits
			total += bytes
		}
		time.Sleep(100 * time.Millisecond)
	}
	return total, nil
}
