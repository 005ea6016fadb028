package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/host"
	"inbox/cmd/inbox/internal/operator"
)

// errNoMetrics explains how to enable the listener that inbox status asks.
var errNoMetrics = errors.New(`inbox status requires the metrics listener, which is off (-metrics-bind is empty)
to enable it, add INBOX_METRICS_BIND=127.0.0.1:9091 to /etc/inbox/inbox.env, or start the server with -metrics-bind 127.0.0.1:9091
then restart the server and run: inbox status, or: inbox status -metrics-bind 127.0.0.1:9091`)

// showStatus prints the state of the server whose metrics listener the options name. Without
// options, it is the server that runs on this machine.
func (p process) showStatus(ctx context.Context, cfg *config.Config) int {
	bind, err := p.metricsBind(cfg)
	if err != nil {
		return p.fail(exitUsage, err)
	}
	if bind.Value == "" {
		return p.fail(exitUsage, errNoMetrics)
	}
	address := operator.DialAddress(bind.Value)
	if _, port, _ := net.SplitHostPort(address); port == "0" {
		return p.fail(exitUsage, errors.New("-metrics-bind has port 0, so the server listens on another port; set that one, which its log contains"))
	}
	status, err := operator.Fetch(ctx, address)
	if err != nil {
		return p.fail(exitFailure, explainNoStatus(address, bind, err))
	}
	io.WriteString(p.stdout, operator.Text(status, operator.TextOptions{
		Colour: p.terminals.stdout && host.AllowsColour(p.getenv),
		Charts: p.terminals.stdout && isUTF8(p.getenv),
	}))
	return exitDone
}

// metricsBind returns the address of the metrics listener.
func (p process) metricsBind(cfg *config.Config) (config.Address, error) {
	if len(p.args) > 1 || cfg.MetricsBind.Value != "" {
		return cfg.MetricsBind, nil
	}
	found, err := p.installedServer("inbox status -metrics-bind 127.0.0.1:9091")
	if err != nil {
		return config.Address{}, err
	}
	options, err := config.Parse(found.args, found.environ)
	if err != nil {
		return config.Address{}, err
	}
	installed, err := config.Resolve(options, hostFacts(found.getenv))
	if err != nil {
		return config.Address{}, err
	}
	return installed.MetricsBind, nil
}

// explainNoStatus says what to check.
func explainNoStatus(address string, bind config.Address, err error) error {
	where := fmt.Sprintf("%s (-metrics-bind, from %s)", address, cmp.Or(bind.From, "default"))
	switch {
	case errors.Is(err, operator.ErrNoStatus):
		return fmt.Errorf("%s does not answer as expected: %w\ncheck that the port belongs to inbox, and not to another program or an older version", where, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no server listens on %s\ncheck that it runs (systemctl status inbox) and was started with the same -metrics-bind (journalctl -u inbox)", where)
	}
	return fmt.Errorf("cannot reach the server at %s: %w\ncheck that the address is one of this machine, and that the server runs (systemctl status inbox)", where, err)
}

// isUTF8 reports whether the terminal shows block characters.
func isUTF8(getenv func(name string) string) bool {
	locale := strings.ToUpper(cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")))
	return strings.Contains(locale, "UTF-8") || strings.Contains(locale, "UTF8")
}
