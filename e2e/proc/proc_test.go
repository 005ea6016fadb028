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
	anon, rss, peak := self.AnonRSS(), self.RSS(), self.PeakRSS() // in this order: each may grow meanwhile
	if anon <= 0 || rss < anon || peak < rss || self.Threads() < 1 || self.OpenFiles() < 3 {
		t.Errorf("got own %d, RSS %d, peak %d, %d threads, %d files", anon, rss, peak, self.Threads(), self.OpenFiles())
	}
	const noProcess = ID(1 << 30) // more than the kernel counts up to
	if noProcess.RSS() >= 0 || noProcess.Threads() != -1 || noProcess.OpenFiles() != -1 {
		t.Errorf("got RSS %d, %d threads and %d files of nobody", noProcess.RSS(), noProcess.Threads(), noProcess.OpenFiles())
	}
}
