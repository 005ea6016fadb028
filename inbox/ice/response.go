package ice

import (
	"encoding/json"
	"net/http"
	"strconv"

	"inbox/internal/problem"
)

// response is an RTCConfiguration, and why it lacks TURN.
type response struct {
	ICEServers []Server `json:"iceServers"`
	TURN       string   `json:"turn,omitempty"`
}

// Write responds with an RTCConfiguration that has the servers. If withheld is not empty, it is why
// there is no TURN server for this client. Write returns an error before it has written anything.
func Write(w http.ResponseWriter, servers []Server, withheld string) error {
	if servers == nil {
		servers = []Server{} // an array, not null
	}
	body, err := json.Marshal(response{servers, withheld})
	if err != nil {
		return err
	}
	header := w.Header()
	problem.SetInert(header)
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // fails if the client has disconnected
	return nil
}
