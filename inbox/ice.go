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
// server that peers use to find a path to each other.
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// UnmarshalJSON accepts urls as a string too, as browsers do.
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
		return nil // check says so
	}
	var one string
	if json.Unmarshal(raw.URLs, &one) == nil {
		s.URLs = []string{one}
		return nil
	}
	return json.Unmarshal(raw.URLs, &s.URLs)
}

// ParseICEServers reads either a list of URLs separated by commas, as in
// "stun:stun.example.org,stun:stun.example.net:3478", or the JSON text of an
// array of RTCIceServer objects, which alone can carry credentials. Empty text
// is no server.
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
	for _, s := range servers {
		if err := s.check(); err != nil {
			return nil, err
		}
	}
	return servers, nil
}

// check refuses what a browser would refuse, where the operator can see it.
func (s ICEServer) check() error {
	if len(s.URLs) == 0 {
		return errors.New("an ICE server has no urls")
	}
	for _, url := range s.URLs {
		scheme, host, _ := strings.Cut(url, ":")
		host, _, _ = strings.Cut(host, "?")
		switch {
		case scheme != "stun" && scheme != "stuns" && scheme != "turn" && scheme != "turns":
			return fmt.Errorf("ICE server %q: want stun:, stuns:, turn: or turns: and a host", url)
		case host == "" || strings.ContainsAny(host, "/@ \t"):
			return fmt.Errorf("ICE server %q: want a host and perhaps a port after %s:, no slashes", url, scheme)
		case strings.HasPrefix(scheme, "turn") && (s.Username == "" || s.Credential == ""):
			return fmt.Errorf("ICE server %q: a TURN server needs username and credential, so it has to be given in a JSON file", url)
		}
	}
	return nil
}

// encodeICE returns the answer to GET /ice, and whether it holds a secret.
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

// getICE answers with an RTCConfiguration. One that holds credentials is only
// for those who claimed a name.
func (h *Handler) getICE(w http.ResponseWriter, r *http.Request) error {
	if h.iceAuth {
		if _, err := h.open(r); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(h.ice)))
	w.Write(h.ice)
	return nil
}
