package operator

import (
	"fmt"
	"strings"
	"time"

	"inbox/cmd/inbox/internal/host"
)

const (
	// textWidth is the number of columns of the text.
	textWidth = 80
	// chartColumns is the width of a chart.
	chartColumns = 36
	// maxTextWarnings and maxTextNames bound the lists.
	maxTextWarnings = 5
	maxTextNames    = 20
)

// TextOptions describes the terminal.
type TextOptions struct {
	Colour bool
	// Charts draws charts with block characters.
	Charts bool
}

// Text returns the state as text of at most 80 columns.
func Text(s Status, o TextOptions) string {
	t := &text{Status: s, options: o}
	t.head()
	t.certificates()
	t.load()
	t.refusals()
	t.turn()
	t.warnings()
	return t.b.String()
}

type text struct {
	Status
	options TextOptions
	b       strings.Builder
}

// Escape sequences (SGR).
const (
	bold   = "1"
	faint  = "2"
	red    = "1;31"
	green  = "1;32"
	yellow = "33"
	accent = "36"
)

// style returns a text in a style.
func (t *text) style(sgr, s string) string {
	if !t.options.Colour || s == "" {
		return s
	}
	return "\x1b[" + sgr + "m" + s + "\x1b[0m"
}

func (t *text) line(format string, args ...any) {
	t.b.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
}

// title begins a section. The headings are those of columns.
func (t *text) title(title, headings string) {
	t.line("\n%s%s", t.style(bold, title), t.style(faint, headings))
}

func (t *text) head() {
	state, sgr := "ready", green
	if !t.Ready {
		state, sgr = fit("NOT READY: "+strings.Join(t.Failing, ", "), 50), red
	}
	name := fit("inbox "+t.Version, textWidth-2-len(state))
	t.line("%s%s%s", t.style(bold, name), strings.Repeat(" ", textWidth-len([]rune(name))-len([]rune(state))), t.style(sgr, state))
	t.line("up %s, since %s; %s in 24 hours, %d in 7 days", span(time.Duration(t.Process.UptimeSeconds)*time.Second),
		t.Process.StartedAt.Local().Format("2 Jan 15:04"), plural(int64(t.Restarts.LastDay), "restart"), t.Restarts.LastWeek)
	switch r := t.Restarts; {
	case r.Loss != "":
		t.line("%s", t.style(red, "the last restart lost mailboxes: the previous snapshot was "+clean(r.Loss)))
	case r.RestoredInboxes > 0:
		t.line("the last restart kept %s and %s", plural(r.RestoredInboxes, "mailbox"), plural(r.RestoredMessages, "message"))
	}
}

func (t *text) certificates() {
	if len(t.Certificates) == 0 {
		return
	}
	t.title("CERTIFICATES", "")
	for i, c := range t.Certificates {
		if i == maxTextNames {
			t.line("  and %d more", len(t.Certificates)-i)
			break
		}
		t.certificate(c)
	}
}

func (t *text) certificate(c Certificate) {
	life, sgr := "no certificate", red
	if c.NotAfter != nil {
		left := c.NotAfter.Sub(t.Time)
		life, sgr = "ends in "+span(left), green
		if left <= 0 {
			life, sgr = "ended "+span(left)+" ago", red
		} else if c.NotBefore != nil && left < c.NotAfter.Sub(*c.NotBefore)/8 {
			sgr = yellow
		}
	}
	next := ""
	if c.RenewAt != nil {
		next = "renews in " + span(c.RenewAt.Sub(t.Time))
		if !c.RenewAt.After(t.Time) {
			next = "renewal is due"
		}
	}
	if next == "" {
		next = sourceTexts[c.Source]
	}
	t.line("  %-27s %s%-21s %s", fit(c.Name, 27), t.style(sgr, fit(life, 19))+strings.Repeat(" ", max(1, 20-len(life))), next, fit(c.Issuer, 8))
	if c.LastError != "" {
		for line := range strings.Lines(host.Wrap(fit(c.LastError, 300), "    ", textWidth)) {
			t.line("%s", t.style(yellow, strings.TrimRight(line, "\n")))
		}
	}
}

// sourceTexts describe certificates that are not renewed.
var sourceTexts = map[string]string{"self-signed": "self-signed", "file": "from a file"}

func (t *text) load() {
	chart := ""
	if t.options.Charts && len(t.History.Receivers) > 1 {
		chart = "   last " + span(time.Duration(float64(len(t.History.Receivers))*t.History.IntervalSeconds)*time.Second)
	}
	t.title("LOAD", fmt.Sprintf("%20s %15s%s", "now", "limit", chart))
	h := &t.History
	row := func(name, now, limit, chart string) {
		if !t.options.Charts {
			chart = ""
		}
		t.line("  %-11s %10s %15s   %s", name, now, limit, t.style(accent, chart))
	}
	row("receivers", grouped(t.Receivers.Open), "", sparkline(h.Receivers, chartColumns))
	for _, p := range t.Protocols {
		t.line("  %-11s %10s %15s   %s received", p.Protocol, grouped(p.Open), "", plural(p.FramesTotal, "frame"))
	}
	row("messages/s", perSecond(t.Messages.PerSecond), "", sparkline(h.MessagesPerSecond, chartColumns))
	row("mailboxes", grouped(t.Mailboxes.Claimed), limitOf(t.Mailboxes.Limit, grouped), sparkline(h.Mailboxes, chartColumns))
	row("queued", memorySize(t.Mailboxes.QueuedBytes), limitOf(t.Mailboxes.QueuedBytesLimit, memorySize), "")
	row("connections", grouped(t.Connections.Open), limitOf(t.Connections.Limit, grouped), "")
	row("memory", memorySize(t.Process.MemoryBytes), limitOf(t.Process.MemoryLimitBytes, memorySize), sparkline(h.MemoryBytes, chartColumns))
	t.line("  since the start: %s claimed, %s delivered", plural(t.Mailboxes.ClaimedTotal, "mailbox"), plural(t.Messages.DeliveredTotal, "message"))
	if i := t.Invitations; i != nil {
		t.line("  private: %s; guest passes since the start: %s", plural(i.Valid, "valid invitation"), grouped(i.GuestPassesTotal))
	}
}

// limitOf formats a limit, and nothing if it is off.
func limitOf(n int64, format func(int64) string) string {
	if n == 0 {
		return ""
	}
	return format(n)
}

func (t *text) refusals() {
	t.title("REFUSALS", fmt.Sprintf("%16s %15s   %s", "15 min", "since start", "most often"))
	quiet := true
	for _, l := range t.Refusals {
		if l.Total == 0 {
			continue
		}
		quiet = false
		var most []string
		for _, reason := range l.reasons()[:min(2, len(l.Reasons))] {
			most = append(most, reason+" "+grouped(l.Reasons[reason]))
		}
		recent := fmt.Sprintf("%9s", grouped(l.LastMinutes))
		if l.LastMinutes > 0 {
			recent = t.style(yellow, recent)
		}
		t.line("  %-12s %s %15s   %s", fit(strings.TrimSuffix(l.Title, " handshakes"), 12), recent, grouped(l.Total), fit(strings.Join(most, ", "), chartColumns))
	}
	if quiet {
		t.line("  none since the start")
	}
}

func (t *text) turn() {
	r := t.TURN
	if r == nil {
		return
	}
	t.title("TURN", "")
	t.line("  %s open, %s since the start; %s", plural(r.Allocations, "relay"), grouped(r.AllocationsTotal), bitRate(r.BitsPerSecond))
	if r.MonthLimitBytes == 0 {
		t.line("  month: %s, without a limit", traffic(r.MonthBytes))
		return
	}
	share := float64(r.MonthBytes) / float64(r.MonthLimitBytes)
	sgr := green
	if share >= 0.8 {
		sgr = yellow
	}
	t.line("  month: %s %s, %s of %s, until %s", t.style(sgr, gauge(share, 20)), percent(share), traffic(r.MonthBytes), traffic(r.MonthLimitBytes),
		r.MonthEndsAt.Format("2 January (UTC)"))
}

func (t *text) warnings() {
	t.title("LAST WARNINGS", "")
	if len(t.Warnings) == 0 {
		t.line("  none since the start")
	}
	for _, w := range t.Warnings[:min(maxTextWarnings, len(t.Warnings))] {
		t.warning(w)
	}
	if n := len(t.Warnings) - maxTextWarnings; n > 0 {
		t.line("  and %d earlier ones; the log has all", n)
	}
}

func (t *text) warning(w Warning) {
	const indent = "               "
	message := clean(w.Message)
	if w.Count > 1 {
		message += fmt.Sprintf(" (%s times)", grouped(int64(w.Count)))
	}
	sgr := yellow
	if w.Level == "ERROR" {
		sgr = red
	}
	wrapped := strings.TrimPrefix(host.Wrap(message, indent, textWidth), indent)
	t.line("  %s %s", t.style(faint, fmt.Sprintf("%-12s", moment(w.Time, t.Time))), t.style(sgr, firstLine(wrapped)))
	if rest, found := strings.CutPrefix(wrapped, firstLine(wrapped)+"\n"); found {
		t.line("%s", rest)
	}
	var facts []string
	for _, a := range w.Attributes {
		facts = append(facts, clean(a.Name)+"="+clean(a.Value))
	}
	if len(facts) > 0 {
		t.line("%s", t.style(faint, host.Wrap(strings.Join(facts, " "), indent, textWidth)))
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
