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

// flooderEnv names the flood that this process is, flooderAddr whom it floods.
const flooderEnv, flooderAddr = "ATTACK_FLOODER", "ATTACK_FLOODER_ADDR"

// floods are what may run apart, until ctx ends. Each returns two counts.
var floods = map[string]func(s *scene, ctx context.Context) (int64, int64){
	"requests": (*scene).floodRequests,
	"resets":   (*scene).floodResets,
	"pings":    (*scene).floodPings,
	"settings": (*scene).floodSettings,
	"records":  (*scene).floodRecords,
}

// apart runs a flood in another process until ctx ends.
func (s *scene) apart(ctx context.Context, flood string) (one, two int64) {
	c := exec.Command("nice", "-n", "19", os.Args[0])
	c.Env = append(os.Environ(), flooderEnv+"="+flood, flooderAddr+"="+s.addr)
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

// floodApart is what such a process does.
func floodApart(flood string) error {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	run := floods[flood]
	if run == nil {
		return fmt.Errorf("%s=%s is no flood", flooderEnv, flood)
	}
	_, err := fmt.Println(run(&scene{target: &target{addr: os.Getenv(flooderAddr)}}, ctx))
	return err
}
