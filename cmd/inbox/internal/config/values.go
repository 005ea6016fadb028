package config

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"inbox/cmd/inbox/internal/nearest"
	"inbox/cmd/inbox/internal/units"
	"inbox/inbox/invite"
)

const (
	// maxTime is about thirty years. A larger value is a mistake, and could overflow a Duration.
	maxTime = 1_000_000_000_000_000_000 // ns
	day     = 24 * time.Hour
	// maxInvitation bounds the lifetime of an invitation.
	maxInvitation = invite.MaxLifetime
	// maxBytes bounds sizes that have no other maximum.
	maxBytes = 1_000_000_000_000_000_000
	// auto is a value that [Resolve] replaces.
	auto = -1
)

// number is the value of an option that is a whole number from least to most: a quantity in the
// base unit of its kind, or a count if the kind is nil.
type number[T ~int64] struct {
	p           *T
	kind        *units.Kind
	least, most T
	auto        bool // auto is accepted, too
}

// quantityVar declares an option with units; value, least and most are in base units.
func quantityVar[T ~int64](fs *flag.FlagSet, p *T, kind *units.Kind, name string, value, least, most T, usage string) {
	*p = value
	fs.Var(&number[T]{p, kind, least, most, false}, name, usage)
}

// countVar declares an option that is a count.
func countVar(fs *flag.FlagSet, p *int64, name string, value, least, most int64, usage string) {
	*p = value
	fs.Var(&number[int64]{p, nil, least, most, false}, name, usage)
}

// autoVar declares an option that defaults to auto.
func autoVar(fs *flag.FlagSet, p *int64, kind *units.Kind, name string, most int64, usage string) {
	*p = auto
	fs.Var(&number[int64]{p, kind, 0, most, true}, name, usage)
}

// String returns the value in the option's own unit if it is a multiple. It is "" for a zero
// number, as [flag.Value] requires.
func (v *number[T]) String() string {
	switch {
	case v.p == nil:
		return ""
	case v.auto && *v.p == auto:
		return "auto"
	case v.kind == nil:
		return strconv.FormatInt(int64(*v.p), 10)
	}
	return v.kind.Format(int64(*v.p))
}

// Accepts describes the accepted values, as the end of a sentence such as "must be …".
func (v *number[T]) Accepts() string {
	text, separator := fmt.Sprintf("a whole number from %d to %d", v.least, v.most), " or "
	if v.kind != nil {
		text, separator = v.kind.Forms(), ", "
	}
	if v.auto {
		return "auto" + separator + text
	}
	return text
}

// FormatUnit returns the value with its unit.
func (v *number[T]) FormatUnit() string {
	if v.kind == nil || v.auto && *v.p == auto {
		return v.String()
	}
	return v.kind.FormatUnit(int64(*v.p))
}

func (v *number[T]) Set(text string) error {
	if v.auto && text == "auto" {
		*v.p = auto
		return nil
	}
	n, err := v.parse(text)
	if err != nil {
		return err
	}
	if n < int64(v.least) || n > int64(v.most) {
		return v.rangeError()
	}
	*v.p = T(n)
	return nil
}

func (v *number[T]) parse(text string) (int64, error) {
	if v.kind == nil {
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return 0, errors.New("must be " + v.Accepts() + meantNumber(text))
		}
		return int64(n), nil
	}
	n, err := v.kind.Parse(text)
	if err != nil && v.auto {
		err = errors.New(strings.Replace(err.Error(), v.kind.Forms(), v.Accepts(), 1) + didYouMean(nearest.Of(text, "auto")))
	}
	return n, err
}

func (v *number[T]) rangeError() error {
	if v.kind == nil {
		return errors.New("must be " + v.Accepts())
	}
	return fmt.Errorf("must be from %s to %s %s", v.kind.Format(int64(v.least)), v.kind.Format(int64(v.most)), v.kind.Plain())
}

// meantNumber returns a suggestion for a number with separators between its digits.
func meantNumber(text string) string {
	digits := strings.NewReplacer("_", "", ",", "", "'", "", " ", "", "+", "").Replace(text)
	if n, err := strconv.ParseUint(digits, 10, 31); err == nil && digits != text {
		return fmt.Sprintf("; did you mean %d?", n)
	}
	return ""
}

// choice is the value of an option that is one of several words.
type choice struct {
	p     *string
	words []string
}

func choiceVar(fs *flag.FlagSet, p *string, name, value, usage string, words ...string) {
	*p = value
	fs.Var(&choice{p, words}, name, usage)
}

func (v *choice) String() string {
	if v.p == nil {
		return ""
	}
	return *v.p
}

// Accepts lists the words.
func (v *choice) Accepts() string {
	last := len(v.words) - 1
	return strings.Join(v.words[:last], ", ") + " or " + v.words[last]
}

func (v *choice) Set(text string) error {
	if !slices.Contains(v.words, text) {
		return errors.New("must be " + v.Accepts() + didYouMean(nearest.Of(strings.ToLower(text), v.words...)))
	}
	*v.p = text
	return nil
}

// didYouMean returns the end of an error that suggests a text, or "" if it is empty.
func didYouMean(text string) string {
	if text == "" {
		return ""
	}
	return "; did you mean " + text + "?"
}

// booleanError replaces the flag package's error for a boolean option.
func booleanError(text string) error {
	meant := map[string]string{"on": "true", "yes": "true", "y": "true", "enabled": "true", "off": "false", "no": "false", "n": "false", "disabled": "false"}
	text = strings.ToLower(text)
	if meant[text] == "" {
		meant[text] = nearest.Of(text, "true", "false")
	}
	return errors.New("must be true or false" + didYouMean(meant[text]))
}

func isBoolean(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}
