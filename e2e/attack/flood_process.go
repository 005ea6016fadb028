package attack

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// A flood whose effect on other clients is measured runs in a separate process with the
// lowest priority, and with a CPU of its own if there are two. Real attackers have their own
// machines, so their share of the work must not slow the server.

// floodEnv is the environment variable with the name of the flood that this process makes,
// floodAddrEnv the one with the address of the server.
const floodEnv, floodAddrEnv = "ATTACK_FLOODER", "ATTACK_FLOODER_ADDR"

// floods contains the floods that can run in a separate process, until ctx ends. Each
// returns two counts.
var floods = map[string]func(s *scenario, ctx context.Context) (int64, int64){
	oneFlooder.name:     oneFlooder.run,
	networkFlooder.name: networkFlooder.run,
	topicFlooder.name:   floodTopics,
	"resets":            (*scenario).floodResets,
	"pings":             (*scenario).floodPings,
	"settings":          (*scenario).floodSettings,
	"records":           (*scenario).floodRecords,
}

// runFloodProcess runs a flood in another process until ctx ends.
func (s *scenario) runFloodProcess(ctx context.Context, flood string) (one, two int64) {
	c := exec.Command("nice", "-n", "19", os.Args[0])
	c.Env = append(os.Environ(), floodEnv+"="+flood, floodAddrEnv+"="+s.addr)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		s.fail("flood process: %v", err)
		return 0, 0
	}
	defer context.AfterFunc(ctx, func() { in.Close() })() // ends the process
	var out strings.Builder
	c.Stdout = &out
	if err = startOn(s.flooderCPUs, c.Start); err == nil {
		err = c.Wait()
	}
	if err == nil {
		_, err = fmt.Sscan(out.String(), &one, &two)
	}
	if err != nil {
		s.fail("flood process %s: %v", flood, err)
	}
	return one, two
}

// runFloodInChild runs a flood in this process until its standard input ends, and prints the
// counts. Its connections end with a reset, so that a flood does not reach into the phase after it.
func runFloodInChild(flood string) error {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	run := floods[flood]
	if run == nil {
		return fmt.Errorf("unknown flood %s=%s", floodEnv, flood)
	}
	_, err := fmt.Println(run(&scenario{target: &target{addr: os.Getenv(floodAddrEnv), resets: true}}, ctx))
	return err
}
