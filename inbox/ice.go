package inbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// ICEServer is an RTCIceServer of the WebRTC specification: a STUN or TURN
// server with which peers find a path to each other.
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// UnmarshalJSON also accepts urls as a string, as browsers do.
func (s *ICEServer) UnmarshalJSON(data []byte) error {
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

// ParseICEServers parses a comma-separated list of URLs, as in
// "stun:stun.example.org,stun:stun.example.net:3478", or a JSON array of
// RTCIceServer objects. Only the latter can have credentials. An empty spec has
// no servers.
func ParseICEServers(spec string) ([]ICEServer, error) {
	spec = strings.TrimSpace(spec)
	var servers []ICEServer
	switch {
	case spec == "":
		return nil, nil
	case strings.HasPrefix(spec, "["):
		if err := json.Unmarshal([]byte(spec), &servers); err != nil {
			return nil, fmt.Errorf("read ICE servers as a JSON array of {urls, username, credential}: %w", err)
		}
	default:
		for url := range strings.SplitSeq(spec, ",") {
			servers = append(servers, ICEServer{URLs: []string{strings.TrimSpace(url)}})
		}
	}
	if err := normalize(servers); err != nil {
		return nil, err
	}
	return servers, nil
}

const (
	// maxICEURLs bounds what a browser has to try in each call.
	maxICEURLs = 32
	// maxICECredentialBytes is the bound of STUN for user names (RFC 8489, section 14.3),
	// and of WebKit for both.
	maxICECredentialBytes = 508
)

// normalize rejects what a browser would reject, so that the operator sees it, and
// writes URLs in the form that all browsers understand.
func normalize(servers []ICEServer) error {
	urls := 0
	for _, s := range servers {
		if err := s.check(); err != nil {
			return err
		}
		for i, url := range s.URLs {
			var err error
			if s.URLs[i], err = parseICEURL(url); err != nil {
				return fmt.Errorf("ICE server %s: %w", loggedURL(url), err)
			}
			if strings.HasPrefix(s.URLs[i], "turn") && (s.Username == "" || s.Credential == "") {
				return fmt.Errorf("ICE server %s: a TURN server needs username and credential, so it has to be given in a JSON file", loggedURL(url))
			}
		}
		if urls += len(s.URLs); urls > maxICEURLs {
			return fmt.Errorf("the ICE servers have more than %d URLs: a browser tries each of them", maxICEURLs)
		}
	}
	return nil
}

func (s ICEServer) check() error {
	if len(s.URLs) == 0 {
		return errors.New("an ICE server has no urls")
	}
	for field, value := range map[string]string{"username": s.Username, "credential": s.Credential} {
		if len(value) > maxICECredentialBytes {
			return fmt.Errorf("the %s of an ICE server is longer than %d bytes", field, maxICECredentialBytes)
		}
	}
	return nil
}

// encodeICE returns the RTCConfiguration, and whether it contains a secret.
func encodeICE(servers []ICEServer) (body []byte, secret bool) {
	for _, s := range servers {
		secret = secret || s.Credential != ""
	}
	if servers == nil {
		servers = []ICEServer{}
	}
	body, _ = json.Marshal(map[string][]ICEServer{"iceServers": servers}) // strings: cannot fail
	return body, secret
}

// getICE responds with the RTCConfiguration. If it contains credentials, the
// client must have claimed a name.
func (h *Handler) getICE(w http.ResponseWriter, r *http.Request) error {
	if h.iceAuth {
		name, key, err := h.credentials(r)
		if err != nil {
			return err
		}
		if err := h.open(r, name, key); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(h.ice)))
	w.Write(h.ice)
	return nil
}
