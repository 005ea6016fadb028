// Package ice has the STUN and TURN servers that peers try to find a path to each other.
package ice

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Server is an RTCIceServer of the WebRTC specification: a STUN or TURN
// server with which peers find a path to each other.
type Server struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// UnmarshalJSON also accepts urls as a string, as browsers do.
func (s *Server) UnmarshalJSON(data []byte) error {
	var raw struct {
		URLs                 json.RawMessage `json:"urls"`
		Username, Credential string
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&raw); err != nil {
		return err
	}
	s.Username, s.Credential = raw.Username, raw.Credential
	if len(raw.URLs) == 0 {
		return nil // check reports it
	}
	var one string
	if json.Unmarshal(raw.URLs, &one) == nil {
		s.URLs = []string{one}
		return nil
	}
	return json.Unmarshal(raw.URLs, &s.URLs)
}

// Parse parses a comma-separated list of URLs, as in
// "stun:stun.example.org,stun:stun.example.net:3478", or a JSON array of
// RTCIceServer objects. Only the latter can have credentials. An empty spec has
// no servers.
func Parse(spec string) ([]Server, error) {
	spec = strings.TrimSpace(spec)
	var servers []Server
	switch {
	case spec == "":
		return nil, nil
	case strings.HasPrefix(spec, "["):
		if err := json.Unmarshal([]byte(spec), &servers); err != nil {
			return nil, fmt.Errorf("read ICE servers as a JSON array of {urls, username, credential}: %w", err)
		}
	default:
		for url := range strings.SplitSeq(spec, ",") {
			servers = append(servers, Server{URLs: []string{strings.TrimSpace(url)}})
		}
	}
	if err := normalize(servers); err != nil {
		return nil, err
	}
	return servers, nil
}

const (
	// maxURLs bounds what a browser has to try in each call.
	maxURLs = 32
	// maxCredentialBytes is the bound of STUN for user names (RFC 8489, section 14.3),
	// and of WebKit for both.
	maxCredentialBytes = 508
)

// normalize rejects what a browser would reject, so that the operator sees it, and
// writes URLs in the form that all browsers understand.
func normalize(servers []Server) error {
	urls := 0
	for _, s := range servers {
		if err := s.check(); err != nil {
			return err
		}
		for i, url := range s.URLs {
			var err error
			if s.URLs[i], err = parseURL(url); err != nil {
				return fmt.Errorf("ICE server %s: %w", loggedURL(url), err)
			}
			if strings.HasPrefix(s.URLs[i], "turn") && (s.Username == "" || s.Credential == "") {
				return fmt.Errorf("ICE server %s: a TURN server needs username and credential, so it has to be given in a JSON file", loggedURL(url))
			}
		}
		if urls += len(s.URLs); urls > maxURLs {
			return fmt.Errorf("the ICE servers have more than %d URLs: a browser tries each of them", maxURLs)
		}
	}
	return nil
}

func (s Server) check() error {
	if len(s.URLs) == 0 {
		return errors.New("an ICE server has no urls")
	}
	for field, value := range map[string]string{"username": s.Username, "credential": s.Credential} {
		if len(value) > maxCredentialBytes {
			return fmt.Errorf("the %s of an ICE server is longer than %d bytes", field, maxCredentialBytes)
		}
	}
	return nil
}

// HasSecret reports whether a server has credentials.
func HasSecret(servers []Server) bool {
	return slices.ContainsFunc(servers, func(s Server) bool { return s.Credential != "" })
}

// ForClient returns own and those of the others that a client gets: all if it is the owner of a
// mailbox, otherwise those without credentials. The list is not nil.
func ForClient(own, others []Server, isOwner bool) []Server {
	all := append([]Server{}, own...)
	for _, s := range others {
		if s.Credential == "" || isOwner {
			all = append(all, s)
		}
	}
	return all
}
