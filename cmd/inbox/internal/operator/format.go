package operator

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// grouped formats a number with commas.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// scaled formats a number with three digits or more and the largest unit that fits.
func scaled(x, base float64, units ...string) string {
	i := 0
	for ; x >= 999.5 && i < len(units)-1; i++ {
		x /= base
	}
	digits := 0
	if i > 0 && x < 9.95 {
		digits = 1
	}
	return strings.TrimSuffix(strconv.FormatFloat(x, 'f', digits, 64), ".0") + " " + units[i]
}

func memorySize(n int64) string {
	return scaled(float64(n), 1024, "B", "KiB", "MiB", "GiB", "TiB")
}

func traffic(n int64) string { return scaled(float64(n), 1000, "B", "kB", "MB", "GB", "TB") }

func bitRate(perSecond float64) string {
	return scaled(perSecond, 1000, "bit/s", "kbit/s", "Mbit/s", "Gbit/s")
}

// perSecond formats a rate with one digit behind the point if it is small.
func perSecond(x float64) string {
	if x > 0 && x < 0.05 {
		return "<0.1"
	}
	if x < 9.95 {
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	return grouped(int64(math.Round(x)))
}

// span formats a duration in its largest unit.
func span(d time.Duration) string {
	switch d = d.Abs(); {
	case d >= 48*time.Hour:
		return plural(int64(d/(24*time.Hour)), "day")
	case d >= 2*time.Hour:
		return plural(int64(d/time.Hour), "hour")
	case d >= 2*time.Minute:
		return plural(int64(d/time.Minute), "minute")
	}
	return plural(int64(d/time.Second), "second")
}

func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "x") {
		return grouped(n) + " " + noun + "es"
	}
	return grouped(n) + " " + noun + "s"
}

// moment formats a time of the past, relative to the day of now.
func moment(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format("15:04:05")
	}
	return t.Format("2 Jan 15:04")
}

// fit shortens a text to a number of columns.
func fit(text string, columns int) string {
	text = clean(text)
	if utf8.RuneCountInString(text) <= columns {
		return text
	}
	return string([]rune(text)[:max(0, columns-2)]) + ".."
}

// clean replaces what a terminal would interpret. Texts can come from a CA.
func clean(text string) string {
	return strings.Map(func(c rune) rune {
		if !strconv.IsPrint(c) {
			return '?'
		}
		return c
	}, text)
}

// sparkline draws values in a number of columns, with the highest value at the top. It is empty
// without values other than 0.
func sparkline[N int64 | float64](values []N, columns int) string {
	var highest float64
	for _, v := range values {
		highest = max(highest, float64(v))
	}
	if highest == 0 {
		return ""
	}
	columns = min(columns, len(values))
	var b strings.Builder
	for i := range columns {
		part := values[i*len(values)/columns : (i+1)*len(values)/columns]
		var sum float64
		for _, v := range part {
			sum += float64(v)
		}
		level := math.Ceil(8 * sum / float64(len(part)) / highest)
		b.WriteRune([]rune("▁▁▂▃▄▅▆▇█")[int(max(0, min(8, level)))])
	}
	return b.String()
}

// gauge draws a bar of a share from 0 to 1.
func gauge(share float64, columns int) string {
	full := int(math.Round(min(1, max(0, share)) * float64(columns)))
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", columns-full) + "]"
}

// percent formats a share.
func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }
