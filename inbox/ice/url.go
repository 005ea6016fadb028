package ice

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// parseURL returns a STUN or TURN URL (RFC 7064, RFC 7065) with its scheme and
// transport in lower case. It refuses what a browser would refuse, or could never resolve.
func parseURL(url string) (string, error) {
	scheme, rest, _ := strings.Cut(url, ":")
	scheme = strings.ToLower(scheme)
	if scheme != "stun" && scheme != "stuns" && scheme != "turn" && scheme != "turns" {
		return "", errors.New("want stun:, stuns:, turn: or turns: and a host")
	}
	switch {
	case strings.Contains(rest, "@"):
		return "", errors.New("must not contain a user: its name and password belong into username and credential of a JSON file")
	case strings.Contains(rest, "#"):
		return "", errors.New("must not contain a fragment (#)")
	}
	hostport, query, hasQuery := strings.Cut(rest, "?")
	if err := checkHostPort(hostport); err != nil {
		return "", err
	}
	if !hasQuery {
		return scheme + ":" + hostport, nil
	}
	query = strings.ToLower(query)
	switch {
	case strings.HasPrefix(scheme, "stun"):
		return "", errors.New("a STUN server has no ?transport= or other query")
	case query != "transport=udp" && query != "transport=tcp":
		return "", errors.New("the query must be ?transport=udp or ?transport=tcp")
	}
	return scheme + ":" + hostport + "?" + query, nil
}

func checkHostPort(hostport string) error {
	if strings.HasPrefix(hostport, "//") {
		return errors.New("want no slashes before the host, as in stun:stun.example.org")
	}
	if inBrackets, ok := strings.CutPrefix(hostport, "["); ok {
		address, port, closed := strings.Cut(inBrackets, "]")
		if ip, err := netip.ParseAddr(address); !closed || err != nil || !ip.Is6() || ip.Zone() != "" {
			return errors.New("want an IPv6 address without a zone in the brackets, as in stun:[2001:db8::1]:3478")
		}
		if port == "" {
			return nil
		}
		port, ok := strings.CutPrefix(port, ":")
		if !ok {
			return errors.New("want nothing but a port after the brackets, as in stun:[2001:db8::1]:3478")
		}
		return checkPort(port)
	}
	host, port, hasPort := strings.Cut(hostport, ":")
	if strings.Contains(port, ":") {
		return errors.New("an IPv6 address must be in brackets, as in stun:[2001:db8::1]:3478")
	}
	if err := checkHost(host); err != nil || !hasPort {
		return err
	}
	return checkPort(port)
}

func checkPort(port string) error {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return errors.New("the port must be a number from 1 to 65535")
	}
	return nil
}

// checkHost accepts an IPv4 address, or a host name in ASCII. Browsers pass a name with
// other characters on to a resolver that does not know it.
func checkHost(host string) error {
	const maxHostBytes = 253
	name := strings.TrimSuffix(host, ".")
	switch {
	case name == "":
		return errors.New("want a host after the scheme, as in stun:stun.example.org")
	case len(name) > maxHostBytes:
		return fmt.Errorf("the host is longer than %d bytes", maxHostBytes)
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(label); err != nil {
			return err
		}
		last = label
	}
	if addr, err := netip.ParseAddr(host); isNumber(last) && (err != nil || !addr.Is4()) {
		return errors.New("the host ends in a number but is not an IPv4 address")
	}
	return nil
}

func checkLabel(label string) error {
	const maxLabelBytes = 63
	for i := range len(label) {
		switch c := label[i]; {
		case c >= 0x80:
			return errors.New("write the host in ASCII, with xn-- for other letters")
		case !isLetterOrDigit(c) && c != '-' && c != '_':
			return errors.New("the host contains a character that host names do not have")
		}
	}
	if label == "" || len(label) > maxLabelBytes || label[0] == '-' || label[len(label)-1] == '-' {
		return fmt.Errorf("each part of the host must have 1 to %d characters, without a hyphen at its ends", maxLabelBytes)
	}
	return nil
}

func isLetterOrDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// isNumber reports a label that browsers read as part of an IPv4 address (URL Standard,
// "ends in a number"): digits, or hexadecimal digits after 0x.
func isNumber(label string) bool {
	hex, isHex := strings.CutPrefix(strings.ToLower(label), "0x")
	if isHex {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// loggedURL returns the part of an ICE server's URL that can be shown in an error: no
// credentials, and no more than a line.
func loggedURL(url string) string {
	url, _, _ = strings.Cut(url, "?")
	if strings.Contains(url, "@") {
		url, _, _ = strings.Cut(url, ":")
	}
	return fmt.Sprintf("%.100q", url)
}
