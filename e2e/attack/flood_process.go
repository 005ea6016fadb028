package attack

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// A flood that is measured by how others fare runs in a process of its own,
// with the least priority: strangers have machines of their own, and what their
// side of the work costs must not count against the server.

// floodEnv names the flood that this process is, floodAddrEnv whom it floods.
const floodEnv, floodAddrEnv = "ATTACK_FLOODER", "ATTACK_FLOODER_ADDR"

// floods are what may run apart, until ctx ends. Each returns two counts.
var floods = map[string]func(s *scenario, ctx context.Context) (int64, int64){
	"requests": (*scenario).floodRequests,
	"resets":   (*scenario).floodResets,
	"pings":    (*scenario).floodPings,
	"settings": (*scenario).floodSettings,
	"records":  (*scenario).floodRecords,
}

// runFloodProcess runs a flood in another process until ctx ends.
func (s *scenario) runFloodProcess(ctx context.Context, flood string) (one, two int64) {
	c := exec.Command("nice", "-n", "19", os.Args[0])
	c.Env = append(os.Environ(), floodEnv+"="+flood, floodAddrEnv+"="+s.addr)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		s.fail("a process that floods: %v", err)
		return 0, 0
	}
	defer context.AfterFunc(ctx, func() { in.Close() })() // tells it to end
	out, err := c.Output()
	if err == nil {
		_, err = fmt.Sscan(string(out), &one, &two)
	}
	if err != nil {
		s.fail("the process that floods with %s: %v", flood, err)
	}
	return one, two
}

// runFloodInChild is what such a process does.
func runFloodInChild(flood string) error {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	run := floods[flood]
	if run == nil {
		return fmt.Errorf("%s=%s is no flood", floodEnv, flood)
	}
	_, err := fmt.Println(run(&scenario{target: &target{addr: os.Getenv(floodAddrEnv)}}, ctx))
	return err
}
