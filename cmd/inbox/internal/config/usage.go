package config

import (
	"flag"
	"fmt"
	"strings"

	"inbox/cmd/inbox/internal/host"
)

// Usage returns the text of -h.
func Usage() string {
	var b strings.Builder
	b.WriteString("Usage: inbox [options]\n       inbox doctor [options]   (checks options, ports, DNS and certificates)\n" +
		"       inbox version\n\n" +
		"A WebRTC signaling server. Every option can also be set in the environment\n" +
		"(-inbox-timeout as INBOX_INBOX_TIMEOUT) or in the -config file.\n")
	for _, g := range defaultOptions().groups {
		fmt.Fprintf(&b, "\n%s\n", g.title)
		g.flags.VisitAll(func(f *flag.Flag) { writeOption(&b, f) })
	}
	return b.String()
}

func writeOption(b *strings.Builder, f *flag.Flag) {
	value, meaning := flag.UnquoteUsage(f)
	fmt.Fprintf(b, "  -%s", f.Name)
	if value != "" {
		fmt.Fprintf(b, " %s", value)
	}
	shown := f.DefValue
	if shown == "" {
		shown = "empty"
	}
	fmt.Fprintf(b, "\n%s\n", host.Wrap(meaning+" (default "+shown+")", "        ", 80))
}
