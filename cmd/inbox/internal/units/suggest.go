package units

import (
	"math/big"
	"strings"
)

// The aliases are the units of common mistakes, in lower case. A bit rate in capitals, such as
// MB/s, is no alias: it is eight times as large.
var (
	timeAliases = map[string]string{
		"nsec": "ns", "usec": "us", "µs": "us", "μs": "us", "msec": "ms", "millis": "ms", "milliseconds": "ms",
		"sec": "s", "secs": "s", "second": "s", "seconds": "s", "min": "m", "mins": "m", "minute": "m", "minutes": "m",
		"hr": "h", "hrs": "h", "hour": "h", "hours": "h", "day": "d", "days": "d",
	}
	sizeAliases = map[string]string{
		"byte": "B", "bytes": "B", "k": "kB", "m": "MB", "g": "GB", "ki": "KiB", "mi": "MiB", "gi": "GiB",
	}
	rateAliases = map[string]string{
		"k": "kbit/s", "kbit": "kbit/s", "kbps": "kbit/s", "kb/s": "kbit/s", "m": "Mbit/s", "mbit": "Mbit/s", "mbps": "Mbit/s",
		"mb/s": "Mbit/s", "g": "Gbit/s", "gbit": "Gbit/s", "gbps": "Gbit/s", "gb/s": "Gbit/s",
	}
)

// suggest returns "; did you mean …?" if a text is an accepted one with a common mistake.
func (k *Kind) suggest(text string) string {
	if len(text) > maxLength {
		return ""
	}
	corrected := k.correct(strings.TrimPrefix(strings.Join(strings.Fields(text), ""), "+"))
	if n, err := k.parse(corrected); err != nil || n%k.step != 0 || corrected == text {
		return ""
	}
	return "; did you mean " + corrected + "?"
}

// correct replaces the units of a text without blanks by those that are meant, and writes a
// fraction with a smaller unit.
func (k *Kind) correct(text string) string {
	if whole, fraction, found := strings.Cut(text, "."); found {
		digits := fraction[:len(fraction)-len(strings.TrimLeft(fraction, "0123456789"))]
		return k.wholeNumber(whole+"."+digits, fraction[len(digits):])
	}
	var b strings.Builder
	for text != "" {
		number, name, rest := k.cut(text)
		b.WriteString(number + k.meant(name))
		text = rest
	}
	return b.String()
}

// meant returns the unit that a name means, or the name.
func (k *Kind) meant(name string) string {
	if k.index(name) >= 0 {
		return name
	}
	if alias, found := k.aliases[strings.ToLower(name)]; found && !strings.Contains(name, "B/") {
		return alias
	}
	for _, u := range k.units {
		if strings.EqualFold(name, u.name) {
			return u.name
		}
	}
	return name
}

// wholeNumber returns a decimal number of a unit as a whole number of a smaller one, or "".
func (k *Kind) wholeNumber(number, name string) string {
	size := k.scale
	if i := k.index(k.meant(name)); i >= 0 {
		size = k.units[i].size
	} else if name != "" {
		return ""
	}
	n, ok := new(big.Rat).SetString(number)
	if !ok {
		return ""
	}
	if n.Mul(n, new(big.Rat).SetInt64(size)); !n.IsInt() || !n.Num().IsInt64() {
		return ""
	}
	return k.FormatUnit(n.Num().Int64())
}
