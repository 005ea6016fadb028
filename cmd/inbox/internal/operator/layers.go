package operator

import "slices"

// layer is a part of the server that refuses, from the socket up.
type layer int

const (
	layerConnections layer = iota
	layerTLS
	layerRequests
	layerMailboxes
	layerGuesses
	layerTURN
	numLayers
)

// layerNames are the names in the JSON, with what the page and the terminal call them.
var layerNames = [numLayers]struct{ name, title string }{
	{"connections", "Connections"},
	{"tls", "TLS handshakes"},
	{"requests", "Requests"},
	{"mailboxes", "Mailboxes"},
	{"guesses", "Guesses"},
	{"turn", "TURN"},
}

// limitLayers has the layer of each limit of [limits.Limits.Refused]. The limits that only delay
// are not in it.
var limitLayers = map[string]layer{
	"connections": layerConnections, "connections-per-address": layerConnections, "connection-rate": layerConnections,
	"unfinished-handshakes": layerConnections, "unfinished-headers": layerConnections, "stalled-connections": layerConnections,
	"requests": layerRequests, "header": layerRequests, "polls": layerRequests, "files": layerRequests, "lingering": layerRequests,
	"streams": layerRequests, "stalled-streams": layerRequests,
	"passwords": layerGuesses, "names": layerGuesses, "misses": layerGuesses, "codes": layerGuesses, "new-codes": layerGuesses,
	"ids": layerGuesses,
}

// delays are the limits that delay and refuse nothing.
var delays = []string{"frames", "handshakes", "paced-requests"}

// requestProblems are the problems that are not those of mailboxes.
var requestProblems = []string{"misdirected-request", "http-version", "local-only", "not-found", "method-not-allowed", "cross-site"}

// clientFailures are the reasons of failed handshakes that the client ended.
var clientFailures = []string{"rejected", "closed", "other"}

// refusals returns the number of refusals by layer and reason, without those that are 0.
func (s *Sources) refusals() (byLayer [numLayers]map[string]int64) {
	for l := range byLayer {
		byLayer[l] = map[string]int64{}
	}
	add := func(l layer, reason string, n int64) {
		if n > 0 {
			byLayer[l][reason] += n
		}
	}
	for limit, n := range s.Limits.Refused() {
		if l, refuses := limitLayers[limit]; refuses {
			add(l, limit, n)
		}
	}
	add(layerConnections, "dropped-for-frames", s.Limits.Frames.Dropped())
	for reason, n := range s.Errors.HandshakeErrors() {
		if !slices.Contains(clientFailures, reason) {
			add(layerTLS, reason, n)
		}
	}
	for problem, n := range s.Refusals() {
		add(layerOfProblem(problem), problem, n)
	}
	if s.TURN != nil {
		for reason, n := range s.TURN().Refused {
			add(layerTURN, reason, n)
		}
	}
	return byLayer
}

func layerOfProblem(problem string) layer {
	if slices.Contains(requestProblems, problem) {
		return layerRequests
	}
	return layerMailboxes
}
