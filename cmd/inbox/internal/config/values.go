package config

import (
	"errors"
	"flag"
	"net"
	"strconv"
	"strings"
	"unicode"
)

// intValue is a whole number. Unlike the flag package's own type, its parse error
// says that a whole number is expected.
type intValue int64

func intVar(fs *flag.FlagSet, p *int64, name string, value int64, usage string) {
	*p = value
	fs.Var((*intValue)(p), name, usage)
}

func (v *intValue) String() string { return strconv.FormatInt(int64(*v), 10) }

func (v *intValue) Set(s string) error {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return errors.New("must be a whole number")
	}
	*v = intValue(n)
	return nil
}

// autoValue is a whole number, or auto, which [Resolve] replaces.
type autoValue int64

const auto = -1

func autoVar(fs *flag.FlagSet, p *int64, name, usage string) {
	*p = auto
	fs.Var((*autoValue)(p), name, usage)
}

func (v *autoValue) String() string {
	if *v == auto {
		return "auto"
	}
	return strconv.FormatInt(int64(*v), 10)
}

func (v *autoValue) Set(s string) error {
	if s == "auto" {
		*v = auto
		return nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return errors.New("must be a non-negative whole number or auto")
	}
	*v = autoValue(n)
	return nil
}

// splitList splits a comma-separated list and drops empty elements.
func splitList(text string) (list []string) {
	for element := range strings.SplitSeq(text, ",") {
		if element = strings.TrimSpace(element); element != "" {
			list = append(list, element)
		}
	}
	return list
}

// hostNameMistake returns what is wrong with a host name for common mistakes; "" if it is
// none of them. The port is set with another option.
func hostNameMistake(name, portOption string) string {
	switch {
	case strings.ContainsAny(name, "\"'`“”„‘’«»"):
		return "contains a quotation mark; remove it"
	case strings.ContainsFunc(name, unicode.IsSpace) || strings.ContainsAny(name, ";|"):
		return "is not a host name; separate several names by commas"
	case strings.Contains(name, "://") || strings.ContainsAny(name, "/?#"):
		return "is a URL; write the host name only"
	case strings.Contains(name, "@"):
		return "is an e-mail address; write the host name only"
	case strings.Contains(name, "_"):
		return "contains an underscore, which host names and certificates cannot contain"
	}
	if host, _, err := net.SplitHostPort(name); err == nil && host != "" {
		return "contains a port; write the host name only, and set the port with -" + portOption
	}
	return ""
}
