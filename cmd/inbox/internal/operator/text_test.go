package operator

import (
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var escape = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// TestText checks the text: what it has, its width, and that colours change nothing else.
func TestText(t *testing.T) {
	defer func(local *time.Location) { time.Local = local }(time.Local)
	time.Local = time.UTC
	s := newSample(t).Status(now)
	s.Process.MemoryBytes = 88 << 20
	plain := Text(s, TextOptions{})
	for _, want := range []string{
		"inbox v1.0.0", " ready\n", "up 3 hours, since 30 Nov 11:03; 2 restarts in 24 hours, 3 in 7 days\n",
		"CERTIFICATES\n", "  a.example                   ends in 61 days     renews in 31 days     E7\n", "  b.example                   no certificate\n",
		"    order rejected: ?[31mNXDOMAIN\n", "  mailboxes           12         100,000\n", "  memory          88 MiB         512 MiB\n",
		"  peerjs              31                   1,400 frames received\n", "  Mailboxes            0              40   no-inbox 40\n", "  4 relays open, 9 since the start; 0 bit/s\n",
		"  month: [########------------] 41 %, 412 GB of 1 TB, until 1 December (UTC)\n", "order failed (3 times)\n", "name=b.example err=dial 192.0.2.0/24: ?[31mrefused\n",
	} {
		if !strings.Contains(plain, want) {
			t.Errorf("the text lacks %q:\n%s", want, plain)
		}
	}
	if strings.Contains(plain, "\x1b") || strings.Contains(plain, "▁") {
		t.Error("the plain text has escape sequences or charts")
	}
	if coloured := Text(s, TextOptions{Colour: true}); escape.ReplaceAllString(coloured, "") != plain || coloured == plain {
		t.Errorf("got\n%s\nwant the plain text with colours", coloured)
	}
	if charts := Text(s, TextOptions{Charts: true}); !strings.Contains(charts, "█") {
		t.Errorf("no chart in\n%s", charts)
	}
}

// TestTextWidth checks that no line is wider than 80 columns, whatever the state is.
func TestTextWidth(t *testing.T) {
	s := newSample(t).Status(now)
	s.Version, s.Ready, s.Failing = "v1.2.3-0.20261130140320-0123456789ab+dirty", false, []string{"store", "certificates", strings.Repeat("long", 40)}
	s.Certificates[0].Name, s.Certificates[0].Issuer = strings.Repeat("very-long.", 20)+"example", strings.Repeat("issuer ", 20)
	s.Certificates[1].LastError = strings.Repeat("a long error of the CA ", 40)
	s.Mailboxes.Claimed, s.Mailboxes.Limit, s.Messages.DeliveredTotal = 999_999_999, 999_999_999, 1<<40
	s.Restarts.Loss = "unreadable"
	s.Warnings[0].Message = strings.Repeat("a long warning ", 20)
	for line := range strings.Lines(Text(s, TextOptions{Charts: true})) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > textWidth {
			t.Errorf("got a line of %d columns: %s", n, line)
		}
	}
}

func TestFormats(t *testing.T) {
	for got, want := range map[string]string{
		grouped(1234567): "1,234,567", grouped(-1234): "-1,234", grouped(999): "999", memorySize(1536): "1.5 KiB", memorySize(0): "0 B", traffic(412e9): "412 GB",
		bitRate(2_140_000): "2.1 Mbit/s", perSecond(0): "0.0", perSecond(0.01): "<0.1", perSecond(1234.5): "1,235", span(61 * 24 * time.Hour): "61 days",
		span(25 * time.Hour): "25 hours", span(119 * time.Second): "119 seconds", plural(2, "mailbox"): "2 mailboxes", fit("abcdef", 5): "abc..",
		sparkline([]float64{0, 1, 2, 4}, 4): "▁▂▄█", sparkline([]int64{0, 0}, 4): "", gauge(2, 4): "[####]",
		sparkline([]float64{-100, 1}, 2): "▁█",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
