// Package units reads and writes times, sizes and bit rates of the options. Values are whole
// numbers with a unit, such as 90s, 64MiB or 2Gbit/s, or plain numbers in the option's own unit.
// Anything else is an error: a sign, a fraction, an exponent, a blank or an unknown unit.
package units

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxLength bounds the text of a quantity. No sensible value is nearly as long.
const maxLength = 64

var (
	errForm  = errors.New("not a quantity")
	errLarge = errors.New("too large")
)

// unit is a unit and its size in the base unit of its kind.
type unit struct {
	name string
	size int64
}

// Kind is a kind of quantity. Its values are whole numbers of a base unit. It is immutable.
type Kind struct {
	plain    string // unit of a number without one
	scale    int64  // size of that unit in base units
	step     int64  // resolution in base units
	noun     string // a time, a size
	example  string
	compound bool   // several units can follow one another, as in 1h30m
	units    []unit // in ascending order
	aliases  map[string]string
}

// The kinds. The base unit is the nanosecond, the byte, or the bit per second.
var (
	Seconds = &Kind{
		plain: "seconds", scale: int64(time.Second), step: int64(time.Second), noun: "time",
		example: "1h30m", compound: true, units: times, aliases: timeAliases,
	}
	Days = &Kind{
		plain: "days", scale: 24 * int64(time.Hour), step: int64(time.Second), noun: "time",
		example: "12h", compound: true, units: times, aliases: timeAliases,
	}
	Bytes = &Kind{
		plain: "bytes", scale: 1, step: 1, noun: "size", example: "64MiB", units: sizes, aliases: sizeAliases,
	}
	Gigabytes = &Kind{
		plain: "GB", scale: 1e9, step: 1, noun: "size", example: "500MB", units: sizes, aliases: sizeAliases,
	}
	MegabitsPerSecond = &Kind{
		plain: "Mbit/s", scale: 1e6, step: 1, noun: "rate", example: "2Gbit/s", units: rates, aliases: rateAliases,
	}
)

var (
	times = []unit{
		{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}, {"d", 24 * 3600e9},
	}
	sizes = []unit{
		{"B", 1}, {"kB", 1e3}, {"KiB", 1 << 10}, {"MB", 1e6}, {"MiB", 1 << 20}, {"GB", 1e9}, {"GiB", 1 << 30},
	}
	rates = []unit{{"kbit/s", 1e3}, {"Mbit/s", 1e6}, {"Gbit/s", 1e9}}
)

// Plain returns the unit of a number without one, in the plural.
func (k *Kind) Plain() string { return k.plain }

// Forms describes the accepted forms, as the end of a sentence such as "must be …".
func (k *Kind) Forms() string {
	return fmt.Sprintf("a whole number of %s, or a %s with a unit (%s), as in %s", k.plain, k.noun, k.unitNames(), k.example)
}

func (k *Kind) unitNames() string {
	var names []string
	for _, u := range k.units {
		names = append(names, u.name)
	}
	return strings.Join(names, " ")
}

// Parse returns a quantity in base units. Its error names the accepted forms, and the corrected
// text if the mistake is a common one. Too large a value is [math.MaxInt64] without an error:
// the range of the option reports it.
func (k *Kind) Parse(text string) (int64, error) {
	n, err := k.parse(text)
	switch {
	case errors.Is(err, errLarge):
		return math.MaxInt64, nil
	case err != nil:
		return 0, fmt.Errorf("must be %s%s", k.Forms(), k.suggest(text))
	case n%k.step != 0:
		return 0, fmt.Errorf("must be in whole %s: %s", k.plain, k.Forms())
	}
	return n, nil
}

func (k *Kind) parse(text string) (int64, error) {
	if text == "" || len(text) > maxLength {
		return 0, errForm
	}
	if isDigits(text) {
		return multiply(text, k.scale)
	}
	var sum int64
	last := len(k.units) // in descending order, each unit at most once
	for text != "" {
		number, name, rest := k.cut(text)
		i := k.index(name)
		if !isDigits(number) || i < 0 || i >= last || last < len(k.units) && !k.compound {
			return 0, errForm
		}
		n, err := multiply(number, k.units[i].size)
		if err != nil {
			return 0, err
		}
		if sum += n; sum < 0 {
			return 0, errLarge
		}
		last, text = i, rest
	}
	return sum, nil
}

// cut cuts a leading number and the unit behind it. Without several units, the unit is the
// whole rest.
func (k *Kind) cut(text string) (number, name, rest string) {
	number = text[:len(text)-len(strings.TrimLeft(text, "0123456789"))]
	name = text[len(number):]
	if i := strings.IndexAny(name, "0123456789"); k.compound && i >= 0 {
		name, rest = name[:i], name[i:]
	}
	return number, name, rest
}

func (k *Kind) index(name string) int {
	for i, u := range k.units {
		if u.name == name {
			return i
		}
	}
	return -1
}

func isDigits(text string) bool { return text != "" && strings.Trim(text, "0123456789") == "" }

func multiply(number string, size int64) (int64, error) {
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > math.MaxInt64/size {
		return 0, errLarge
	}
	return n * size, nil
}

// Format returns a quantity as a plain number if it is one, or else with the largest unit of
// which it is a multiple. Parse returns the same quantity again.
func (k *Kind) Format(n int64) string {
	if n%k.scale == 0 {
		return strconv.FormatInt(n/k.scale, 10)
	}
	return k.FormatUnit(n)
}

// FormatUnit returns a quantity with the largest unit of which it is a multiple. Zero has no
// unit.
func (k *Kind) FormatUnit(n int64) string {
	for i := len(k.units) - 1; i >= 0 && n > 0; i-- {
		if u := k.units[i]; n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(n/k.scale, 10)
}
