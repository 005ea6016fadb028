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
		t.Errorf("got %v and then %v (%v), want an increase", before, after, err)
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := ID(ended.Process.Pid).CPU(); err == nil {
		t.Error("got CPU time of an exited process, want an error")
	}
}

func TestStatus(t *testing.T) {
	self := ID(os.Getpid())
	anon, rss, peak := self.AnonRSS(), self.RSS(), self.PeakRSS() // in this order: each can grow meanwhile
	if anon <= 0 || rss < anon || peak < rss || self.Threads() < 1 || self.OpenFiles() < 3 {
		t.Errorf("got anonymous %d, RSS %d, peak %d, %d threads, %d files, want increasing memory, 1 thread and 3 files at least", anon, rss, peak, self.Threads(), self.OpenFiles())
	}
	const noProcess = ID(1 << 30) // above the largest process ID
	if noProcess.RSS() >= 0 || noProcess.Threads() != -1 || noProcess.OpenFiles() != -1 {
		t.Errorf("got RSS %d, %d threads and %d files without a process, want negative values", noProcess.RSS(), noProcess.Threads(), noProcess.OpenFiles())
	}
}
