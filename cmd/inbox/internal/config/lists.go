package config

import (
	"net"
	"strings"
	"unicode"
)

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
