package proc

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestCPUCountsWork(t *testing.T) {
	before, err := ID(os.Getpid()).CPU()
	if err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); time.Since(start) < 20*time.Millisecond; {
	}
	after, err := ID(os.Getpid()).CPU()
	if err != nil || after <= before {
		t.Errorf("got %v and then %v (%v), want more", before, after, err)
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := ID(ended.Process.Pid).CPU(); err == nil {
		t.Error("a process that has ended has CPU time")
	}
}

func TestStatus(t *testing.T) {
	self := ID(os.Getpid())
	own, rss, peak := self.Own(), self.RSS(), self.Peak() // in this order: each may grow meanwhile
	if own <= 0 || rss < own || peak < rss || self.Threads() < 1 || self.Files() < 3 {
		t.Errorf("got own %d, RSS %d, peak %d, %d threads, %d files", own, rss, peak, self.Threads(), self.Files())
	}
	const nobody = ID(1 << 30) // more than the kernel counts up to
	if nobody.RSS() >= 0 || nobody.Threads() != -1 || nobody.Files() != -1 {
		t.Errorf("got RSS %d, %d threads and %d files of nobody", nobody.RSS(), nobody.Threads(), nobody.Files())
	}
}
