package recipes

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
)

// inBrowser returns a check of both streams in a real browser, which runs on the machine.
func inBrowser(kind, program string) func(m *machine) {
	return func(m *machine) {
		for _, needed := range []string{"node", program} {
			if _, err := exec.LookPath(needed); err != nil {
				skipOrFail(m.t, "requires "+needed+": run scripts/test install")
			}
		}
		driver, err := filepath.Abs("../pages/lib/streams.js")
		m.must(err)
		c := m.command("node", driver, kind, "https://"+site+"/robots.txt", serverAddr)
		c.Env = append(os.Environ(), "HOME="+m.t.TempDir())
		var output lockedBuffer
		c.Stderr = &output
		out, err := c.Output()
		var result struct{ Stream, Socket string }
		if err != nil || json.Unmarshal(out, &result) != nil || result.Stream != "ok" || result.Socket != "ok" {
			m.t.Errorf("%s: got %s, %v, want ok twice\n%s", kind, out, err, output.String())
		}
	}
}
