package healthcheck

import (
	"context"
	"os/exec"
	"strings"
)

// SocketUnits are the units of the package that can hold the address of the server.
var SocketUnits = []string{"inbox.socket", "inbox-http.socket"}

// SystemdBind returns the address of the active socket unit whose FileDescriptorName= is name,
// in the form of -bind, or "" if systemd holds none. It waits until ctx ends at most.
func SystemdBind(ctx context.Context, name string) string {
	args := append([]string{"show", "--property=ActiveState,FileDescriptorName,Listen"}, SocketUnits...)
	out, err := exec.CommandContext(ctx, "systemctl", args...).Output()
	if err != nil {
		return ""
	}
	return bindOf(string(out), name)
}

// bindOf finds the address in the properties of units, which empty lines separate.
func bindOf(properties, name string) string {
	for unit := range strings.SplitSeq(properties, "\n\n") {
		lines := strings.Split(unit, "\n")
		value := func(property string) string {
			for _, line := range lines {
				if v, found := strings.CutPrefix(line, property+"="); found {
					return v
				}
			}
			return ""
		}
		address, isStream := strings.CutSuffix(value("Listen"), " (Stream)")
		if value("ActiveState") != "active" || value("FileDescriptorName") != name || !isStream {
			continue
		}
		if strings.HasPrefix(address, "/") {
			return "unix:" + address
		}
		return address
	}
	return ""
}
