package config

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// optionError returns an error that names an option, its value as given and the source of the
// value.
func (o *Options) optionError(name string, why error) error {
	from, value := o.from[name], o.given[name]
	if from == "" {
		from, value = "default", o.flags.Lookup(name).DefValue
	}
	return valueError(name, value, from, why)
}

// secretError is optionError without the value, which can contain a password.
func (o *Options) secretError(name string, why error) error {
	return fmt.Errorf("-%s (from %s): %w", name, cmp.Or(o.from[name], "default"), withoutPasswords(why, o.given[name]))
}

func valueError(name, value, from string, err error) error {
	return fmt.Errorf("-%s %q (from %s): %w", name, shorten(Mask(value)), from, withoutPasswords(err, value))
}

// maskedError is an error with another text.
type maskedError struct {
	error
	text string
}

func (e maskedError) Error() string { return e.text }

func (e maskedError) Unwrap() error { return e.error }

// withoutPasswords masks a value, and the elements of a list, in an error about it.
func withoutPasswords(err error, value string) error {
	if Mask(value) == value {
		return err
	}
	text := err.Error()
	for _, part := range append([]string{value}, splitList(value)...) {
		text = strings.ReplaceAll(text, part, Mask(part))
		text = strings.ReplaceAll(text, strconv.Quote(part), strconv.Quote(Mask(part)))
	}
	return maskedError{err, text}
}

// maxShown bounds what an error repeats of a value, so that it fits into a line.
const maxShown = 100

func shorten(text string) string {
	if len(text) <= maxShown {
		return text
	}
	end := maxShown
	for !utf8.RuneStart(text[end]) && end > maxShown-utf8.UTFMax {
		end--
	}
	return text[:end] + "…"
}

// printable replaces characters that a terminal would interpret.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if strconv.IsPrint(c) {
			return c
		}
		return '?'
	}, text)
}

// urlPassword matches the beginning of a URL up to its last @, which can be part of a password.
var urlPassword = regexp.MustCompile(`(?is)([a-z][a-z0-9+.-]*://|turns?:|stuns?:)(.*)@`)

// plainUser matches user information with a user name that is certainly no password.
var plainUser = regexp.MustCompile(`^[A-Za-z0-9._-]*:`)

// secretQuery matches the value of a query parameter that holds a secret.
var secretQuery = regexp.MustCompile(`(?i)([?&](?:password|passwd|pass|pw|credential|secret|token|key|auth)=)[^&#,]*`)

// Mask replaces the passwords in a value of an option that contains URLs by ***. A user name is
// kept only in front of a password.
func Mask(value string) string {
	value = secretQuery.ReplaceAllString(value, "${1}***")
	m := urlPassword.FindStringSubmatchIndex(value)
	if m == nil {
		return value
	}
	user := ""
	if userinfo := value[m[4]:m[5]]; plainUser.MatchString(userinfo) && strings.Contains(value[m[2]:m[3]], "//") {
		user = plainUser.FindString(userinfo)
	}
	return value[:m[4]] + user + "***@" + value[m[5]+1:]
}
