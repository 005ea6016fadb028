package ice

import (
	"encoding/json"
	"net/http"
	"strconv"

	"inbox/internal/problem"
)

// Configuration is the body of GET /ice: an RTCConfiguration, and why it lacks TURN.
type Configuration struct {
	ICEServers []Server `json:"iceServers"`
	TURN       string   `json:"turn,omitempty"`
}

// Write responds with the configuration.
func (c Configuration) Write(w http.ResponseWriter) error {
	body, err := json.Marshal(c)
	if err != nil {
		return err
	}
	header := w.Header()
	problem.SetInert(header)
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body)
	return nil
}
