package config

import (
	"errors"
	"fmt"
	"strings"

	"inbox/inbox/ice"
)

func (r *resolver) resolveICE() error {
	if strings.HasPrefix(strings.TrimSpace(r.o.iceServers), "[") {
		// Not optionError, which would repeat the credentials.
		return r.o.secretError("ice-servers", errors.New("inline JSON is not accepted; write it to a file and give the path "+
			"of the file"))
	}
	text, err := readICEServers(r.o.iceServers)
	if err == nil {
		r.c.ICEServers, err = ice.Parse(text)
	}
	if err != nil && strings.ContainsAny(r.o.iceServers, "@?") {
		return r.o.secretError("ice-servers", err) // a URL could contain a password
	}
	if err != nil {
		return r.o.optionError("ice-servers", err)
	}
	return nil
}

// readICEServers returns value if it consists of URLs, or else the text of the file
// that it names. Credentials belong in the file: other users can read a command line.
func readICEServers(value string) (string, error) {
	if value == "" || isICEServerList(value) {
		return value, nil
	}
	text, err := readSmallFile(value)
	if err != nil {
		return "", fmt.Errorf("must be stun: URLs or a readable file: %w", err)
	}
	if !strings.HasPrefix(strings.TrimSpace(text), "[") {
		return "", errors.New(`the file must contain a JSON array, such as [{"urls": "stun:stun.example.org"}]`)
	}
	return text, nil
}

// isICEServerList reports whether -ice-servers contains URLs instead of the path of a file.
func isICEServerList(value string) bool {
	scheme, _, isURL := strings.Cut(strings.TrimSpace(value), ":")
	for _, s := range []string{"stun", "stuns", "turn", "turns"} {
		if isURL && strings.EqualFold(scheme, s) {
			return true
		}
	}
	return false
}
