package inbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
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

// iceResponse is the body of GET /ice: an RTCConfiguration, and why it lacks TURN.
type iceResponse struct {
	ICEServers []ICEServer `json:"iceServers"`
	TURN       string      `json:"turn,omitempty"`
}

// turnOtherOrigin is why pages of a site get no TURN that only AnyOrigin lets in: every site
// could use the relay through its visitors.
const turnOtherOrigin = "other-origin"

// getICE responds with the RTCConfiguration. Servers with credentials are for clients that
// prove to own a mailbox. Without such servers it ignores the client's credentials.
func (h *Handler) getICE(w http.ResponseWriter, r *http.Request) error {
	owner, err := h.iceOwner(r)
	if err != nil {
		return err
	}
	servers, withheld := h.ownServers(r, owner)
	answer := iceResponse{ICEServers: append([]ICEServer{}, servers...), TURN: withheld}
	for _, s := range h.iceServers {
		if s.Credential == "" || owner != "" {
			answer.ICEServers = append(answer.ICEServers, s)
		}
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body)
	return nil
}

// ownServers returns the STUN and TURN servers of this server, and why an owner gets no TURN.
func (h *Handler) ownServers(r *http.Request, owner string) (servers []ICEServer, withheld string) {
	if h.turn == nil {
		return nil, ""
	}
	if owner == "" || h.origins.trusts(r) {
		return h.turn(r, owner)
	}
	servers, _ = h.turn(r, "")
	return servers, turnOtherOrigin
}

// iceOwner returns the owner if the request has credentials and they matter. It claims a
// free name.
func (h *Handler) iceOwner(r *http.Request) (owner string, err error) {
	if !h.iceAuth || len(r.Header["Authorization"]) == 0 {
		return "", nil
	}
	name, key, err := h.credentials(r)
	if err != nil {
		return "", err
	}
	if _, err := h.open(r, name, key); err != nil {
		return "", err
	}
	return ownerOf(name, key), nil
}

// ownerOf identifies the owner of a name, also in a later claim.
func ownerOf(name string, key Key) string { return string(key[:]) + name }

// hasSecret reports whether a server has credentials.
func hasSecret(servers []ICEServer) bool {
	return slices.ContainsFunc(servers, func(s ICEServer) bool { return s.Credential != "" })
}
