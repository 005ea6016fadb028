package systemd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// stageUnits copies the units into a directory for systemd-analyze, with the given drop-ins
// (UNIT/NAME, as in "inbox.service/bind").
func stageUnits(t *testing.T, dropIns ...string) string {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		skipOrFail(t, "systemd-analyze is missing; install systemd")
	}
	dir := t.TempDir()
	install := func(from, to string) {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(unitsDir, from))
		if err != nil {
			t.Fatal(err)
		}
		// systemd-analyze checks that the program exists, but it is not installed.
		text := strings.Replace(string(data), "ExecStart=inbox\n", "ExecStart="+program+"\n", 1)
		if from == "inbox.service" && text == string(data) {
			t.Fatal("inbox.service: got no ExecStart=inbox")
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, to)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, unit := range []string{"inbox.service", "inbox.socket", "inbox-http.socket", "inbox-turn.socket"} {
		install(unit, unit)
	}
	for _, d := range dropIns {
		unit, name, _ := strings.Cut(d, "/")
		install("drop-ins/"+name+".conf", unit+".d/"+name+".conf")
	}
	return dir
}

func analyze(dir string, args ...string) (string, error) {
	cmd := exec.Command("systemd-analyze", append([]string{"--no-pager"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// systemd-analyze verify reports nothing about the units, without and with each drop-in.
func TestUnitsVerify(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(unitsDir, "drop-ins", "*.conf"))
	if err != nil || len(files) == 0 {
		t.Fatalf("got no drop-ins: %v", err)
	}
	sets := [][]string{nil}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		unit := "inbox.service"
		if strings.Contains(string(text), "\n[Socket]\n") {
			unit = "inbox.socket"
		}
		sets = append(sets, []string{unit + "/" + strings.TrimSuffix(filepath.Base(file), ".conf")})
	}
	for _, set := range sets {
		out, err := analyze(stageUnits(t, set...), "verify", "./inbox.service", "./inbox.socket", "./inbox-http.socket", "./inbox-turn.socket")
		if err != nil || out != "" {
			t.Errorf("drop-ins %v: got %v, want no output:\n%s", set, err, out)
		}
	}
}

// inbox-turn.socket gives the relay what it cannot take itself.
func TestTURNSocket(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(unitsDir, "inbox-turn.socket"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ListenDatagram=3478", "FileDescriptorName=turn", "BindIPv6Only=both", "ReceiveBuffer=4M", "PassPacketInfo=yes", "WantedBy=sockets.target"} {
		if !strings.Contains(string(text), "\n"+want+"\n") {
			t.Errorf("got no line %s", want)
		}
	}
}

// The exposure that systemd-analyze security calculates (100 is the worst) stays below a
// threshold.
func TestUnitsAreHardened(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		dropIns []string
		most    int
	}{
		{nil, 11},
		{[]string{"inbox.service/credentials", "inbox.service/eab", "inbox.service/limits"}, 11},
		{[]string{"inbox.service/bind"}, 14},
	} {
		dir := stageUnits(t, test.dropIns...)
		out, err := analyze(dir, "security", "--offline=true", fmt.Sprintf("--threshold=%d", test.most), "./inbox.service")
		if err != nil {
			t.Errorf("drop-ins %v: got an exposure above %d of 100: %v\n%s", test.dropIns, test.most, err, out)
		}
		// A lower threshold must fail.
		if out, err := analyze(dir, "security", "--offline=true", "--threshold=5", "./inbox.service"); err == nil {
			t.Errorf("drop-ins %v: got success with a threshold of 5, want a failure:\n%s", test.dropIns, out)
		}
	}
}
